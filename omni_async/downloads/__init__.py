"""The last stage of a job: the clips of finished tasks become complete MP4 files."""
