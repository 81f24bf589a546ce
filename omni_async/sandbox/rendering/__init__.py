"""Rendering of clips: prompts become images, sound and MP4 files. Worker processes import this package and no other."""
