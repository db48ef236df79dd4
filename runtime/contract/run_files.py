"""The names in a run's folder. What is in each file is in run_folder.schema.json, which has the same names."""

RUN, REPORT, PAGE = "run.json", "report.json", "report.html"
STEPS, EVALUATIONS, MEMORY = "steps.jsonl", "eval.jsonl", "memory.jsonl"
LOGS = (STEPS, EVALUATIONS, MEMORY)
CHECKPOINTS, BEST, ADAPTER = "checkpoints", "best", "adapter"
TEXTS, TENSORBOARD = "texts.jsonl", "tensorboard"
# Of a run on a phone, by the harness.
DEVICE, OUTSIDE, LOGCAT, CRASH, NOT_UNDERSTOOD = (
    "device.json",
    "outside.jsonl",
    "logcat.txt",
    "crash.txt",
    "not-understood.txt",
)
