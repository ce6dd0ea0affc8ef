#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the README's examples, as they stand there, against a real daemon.

Exits 77, which ctest counts as skipped, where Python's gRPC is missing.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import daemon as daemons
from readme_block import block

try:
    import grpc  # pylint: disable=unused-import
except ImportError:
    print("skipped: Python's grpc module is not installed")
    sys.exit(77)

SECONDS = 60


def run(*command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=SECONDS, **options)
    return done.stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("mnemed", "mkmodel", "example", "source"):
        parser.add_argument(f"--{name}", required=True)
    args = parser.parse_args()
    source = pathlib.Path(args.source)
    with tempfile.TemporaryDirectory(prefix="mneme-readme-") as folder:
        folder = pathlib.Path(folder)
        # The command of proto/README.md.
        stubs = folder / "stubs"
        stubs.mkdir()
        protos = [str(path.relative_to(source)) for service in ("google/rpc", "mneme/v1")
                  for path in (source / "proto" / service).glob("*.proto")]
        run("protoc", "-I", "proto", f"--python_out={stubs}", f"--grpc_out={stubs}",
            f"--plugin=protoc-gen-grpc={shutil.which('grpc_python_plugin')}", *protos, cwd=source)
        example = folder / "example.py"
        example.write_text(block((source / "README.md").read_text(), "python"))

        model = daemons.make_model(args.mkmodel, folder)
        with daemons.Daemon(args.mnemed, model, folder) as daemon:
            answer = run(args.example, daemon.address)
            assert answer, "the C++ example printed no answer"
            answer = run(sys.executable, str(example), daemon.address,
                         env={**os.environ, "PYTHONPATH": str(stubs)})
            assert answer.startswith(b"absorbed up to 33\n"), answer
            assert len(answer) > len(b"absorbed up to 33\n"), answer
    return 0


if __name__ == "__main__":
    sys.exit(main())
