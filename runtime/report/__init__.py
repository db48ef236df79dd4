"""What a run came to, for programs and for people.

outcome       report.json, worked out from the run's logs
run_folder    a run's folder, read back, whether the run was finished or not
figures       which of a run's numbers are drawn
charts        how they are drawn
phone_rows    what is said of a run on a phone
pages         report.html: of one run, of several side by side
inspect       a bundle for a person: contents, schedules, memory plan
"""
