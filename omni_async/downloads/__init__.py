"""The last stage of a job: finished clips become complete MP4 files."""
