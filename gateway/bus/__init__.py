"""The live bus: one change stream per process, fanned out to bounded queues, resumable."""
