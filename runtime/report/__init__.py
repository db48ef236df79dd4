"""What a run came to, for programs and for people.

outcome       report.json, worked out from the run's logs
run_folder    a run's folder, read back, whether the run was finished or not
words         its figures as labels and values, for the command line and for tables
phone_rows    what is said of a run on a phone
headline      the four numbers that people look for first
memory_bar    where the memory is, as it was planned, and the measured peak
figures       the charts of one run
comparison    several runs: what differs, what came of it, their charts
charts        a chart worked out: axes, lines, what stands beside them
pages         report.html: of one run, of several side by side; its templates and its style sheet are here
texts         texts before and after, added to a run
inspect       a bundle for a person: contents, schedules, memory plan
"""
