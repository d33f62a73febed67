"""What the server runs: rounds of the method, over the sites that are there."""

from client_app import method_of, problem_of

from fedsciml import run
from fedsciml.flower import server_app

app = server_app(problem_of, method_of, train=run)
