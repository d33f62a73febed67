"""The same run over Flower (https://flower.ai), for sites that keep their data.

Flower carries messages between a server and *nodes*, one per site, and starts on both
the two programs of an *app*. Needs ``pip install 'fedsciml[flower]'``; nothing else in
the library imports Flower.

    server   ServerApp   ``server_app``: the problem without data, the method's server
                         part, the run directory, ``Flower``
    site     ClientApp   ``client_app``: the problem with the site's own rows, the
                         method's client part, what the client remembers
    between  Grid        Flower's; ``LocalGrid`` has all of it in one process

A run over Flower:

    query.hello   to each node                 up: which client it is, a hash of what
                                               its problem is, points of each term
    train         an exchange: the broadcast,  up: the method's upload
                  points of each term over
                  all clients, and which
                  memory to start from
    evaluate      theta                        up: the loss of the site's rows

Tensors are ``Array`` in the record ``arrays``, exact; numbers are in ``config``. No
pickle. All else, who is late, who sends nonsense, is the business of ``federation``.
"""

from fedsciml.extras import needed

with needed("fedsciml.flower needs", "flower"):
    from fedsciml.flower.apps import client_app, server_app
    from fedsciml.flower.backend import Flower
    from fedsciml.flower.codec import decode, encode
    from fedsciml.flower.grid import LocalGrid, run

__all__ = ["Flower", "LocalGrid", "client_app", "decode", "encode", "run", "server_app"]
