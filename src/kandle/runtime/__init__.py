"""Running queries: workers, tasks, state, schedules, heartbeats."""
