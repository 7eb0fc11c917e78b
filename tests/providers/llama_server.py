"""A real server that speaks OpenAI's HTTP API: llama.cpp's own, with the model that comes along. A program.

``python -m tests.providers.llama_server MODEL.gguf`` prints its address and serves until its input ends.
"""

from __future__ import annotations

import sys


def main(path: str) -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = path
    params.n_ctx, params.n_parallel, params.n_gpu_layers = 4096, 2, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.verbosity = -1
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)  # noqa: T201
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])
