"""Files and folders on disk, written completely or not at all."""
