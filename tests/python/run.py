"""Runs one function of a scenario file against a server: run.py URL FILE FUNCTION.

The client library is the official one, unmodified; a failed assertion ends with a traceback and
exit code 1.
"""

import asyncio
import importlib.util
import sys

import nats

PATIENCE_S = 30


async def run(url, path, name):
    spec = importlib.util.spec_from_file_location("scenario", path)
    scenario = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(scenario)
    client = await nats.connect(url)
    try:
        await asyncio.wait_for(getattr(scenario, name)(client), PATIENCE_S)
    finally:
        await client.close()


asyncio.run(run(sys.argv[1], sys.argv[2], sys.argv[3]))
