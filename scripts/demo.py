"""A sine and a differential equation, federated and centralised: ``fedsciml demo``."""

import sys

from fedsciml.command import main

if __name__ == "__main__":
    sys.exit(main(["demo", *sys.argv[1:]]))
