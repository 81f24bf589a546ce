"""The film studio of the sandbox: prompts become pictures, sound and MP4 files, in a process of its own."""
