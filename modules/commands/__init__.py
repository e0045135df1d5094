"""What the command line can do, one file each.  Every command is `run(options, settings) -> exit code`."""
