"""One thread at a time: for what changes something that all threads share.

A module's parameters while it runs on others, NumPy's global generator, DeepXDE's and
torch's default precision: whoever changes one of them, and puts it back, does so
``with alone:``. Clients in one process may be asked in several threads.
"""

from threading import RLock

alone = RLock()
"""One for all, so that nobody waits for somebody who waits."""
