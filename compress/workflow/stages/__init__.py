"""What a run does, one file per kind of stage: `VERSION` and `run(stage, inputs, folder, context)`.

`inputs` are the folders of the stages it builds on, by role; it writes to `folder` alone.
"""
