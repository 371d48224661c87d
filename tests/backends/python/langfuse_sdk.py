"""Sends one trace with the Langfuse Python SDK. usage: langfuse_sdk.py HOST KEY PROMPT      prints the ids as JSON"""
import json
import sys

from langfuse import Langfuse

host, key, prompt = sys.argv[1:4]
client = Langfuse(public_key="pk-lf-tests", secret_key=key, host=host, base_url=host)
with client.start_as_current_observation(as_type="span", name="handle request") as parent:
    with client.start_as_current_observation(
        as_type="generation",
        name="answer",
        model="gpt-4o",
        input=[{"role": "user", "content": prompt}],
        output={"role": "assistant", "content": f"answer to {prompt}"},
        usage_details={"input": 21, "output": 9},
        cost_details={"total": 0.0005},
    ) as generation:
        ids = [[o.trace_id, o.id] for o in (parent, generation)]
client.flush()
print(json.dumps({"ids": ids, "auth": client.auth_check()}))
client.shutdown()
