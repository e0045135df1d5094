"""Extensions: folders of code by others, found, loaded into their process, kept apart from everything else, and installed.

See the README of this room.  Never imports torch.
"""
