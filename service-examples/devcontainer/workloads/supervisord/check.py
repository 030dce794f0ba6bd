"""Is a configuration file of supervisord good? Asks supervisord's own parser; starts nothing.

usage: check.py FILE        exit 0: good; 1: not, the last line says why; 2: unable to tell

`supervisord -t` is no such test: there `-t` means --strip_ansi, and the daemon starts.

This reads what supervisord reads when it starts, included files too, and stops where it would begin to act:
no socket is opened, no signal handled, no file written. Run it with a time limit: included files may be on
a file system that hangs, and an `rpcinterface:` section imports the module it names.
"""

import os
import sys
import tempfile

# Python finds the directory for temporary files by writing into candidates. The parser asks for it only as
# the default of `childlogdir`.
tempfile.tempdir = os.environ.get("TMPDIR", "/tmp")


def reason(error):
    """One line. The parser ends some messages with the names of all variables that there are."""
    text = str(error).split(" Available names:")[0]
    return " ".join(text.split()) or type(error).__name__


def main(path):
    try:
        from supervisor.options import ServerOptions
    except Exception as error:
        print(f"unable to load supervisord's parser with {sys.executable}: {reason(error)}")
        return 2

    class Parser(ServerOptions):
        def usage(self, message):
            raise ValueError(message)

    try:
        Parser().realize(["--configuration", path], doc="")
    except Exception as error:
        print(reason(error))
        return 1
    return 0


if len(sys.argv) != 2:
    sys.exit(__doc__)
sys.exit(main(sys.argv[1]))
