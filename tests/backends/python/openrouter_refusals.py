"""What the control API refuses, with the exception class the official OpenRouter SDK declares for it.

The gateway's config file declares the destination `from the file` and the key `tests`.

usage: openrouter_refusals.py ADMIN MANAGEMENT_KEY ORDINARY_KEY      prints the number of cases as JSON
"""
import json
import sys
from datetime import datetime, timedelta, timezone

from openrouter import errors

from openrouter_common import client, refused

NOWHERE = "01890000-0000-7000-8000-000000000000"


def main():
    admin, management, ordinary = sys.argv[1:4]
    base = admin + "/api/v1"
    sdk = client(base, management)
    bad, missing, conflict = errors.BadRequestResponseError, errors.NotFoundResponseError, errors.ConflictResponseError
    url = "http://127.0.0.1:9/x"
    hook = lambda **more: sdk.observability.create(**{"type_": "webhook", "name": "x", "config": {"url": url}, **more})
    rule = lambda **rule: hook(filter_rules={"groups": [{"rules": [rule]}]})
    one = hook().data
    patch = lambda **changes: sdk.observability.update(id=one.id, **changes)
    key = sdk.api_keys.create(name="one").data
    past = datetime.now(timezone.utc) - timedelta(days=1)
    cases = [
        (bad, 400, lambda: hook(config={}), "config.url"),
        (bad, 400, lambda: hook(config={"url": "not a url"}), "config.url"),
        (bad, 400, lambda: hook(config={"url": url, "uri": 1}), "config.uri"),
        (bad, 400, lambda: hook(config={"url": url, "headers": {"bad name": "x"}}), "config.headers"),
        (bad, 400, lambda: hook(config={"url": url, "method": "GET"}), "config.method"),
        (bad, 400, lambda: hook(type_="fax"), "type"),
        (bad, 400, lambda: hook(sampling_rate=0), "sampling_rate"),
        (bad, 400, lambda: hook(sampling_rate=1.5), "sampling_rate"),
        (bad, 400, lambda: hook(api_key_hashes=[]), "api_key_hashes"),
        (bad, 400, lambda: hook(regions=[]), "regions"),
        (bad, 400, lambda: hook(regions=["mars"]), "regions"),
        (bad, 400, lambda: hook(workspace_id=NOWHERE), "workspace_id"),
        (bad, 400, lambda: hook(config={}, sampling_rate=2, regions=[]), "config.url", "sampling_rate", "regions"),
        (bad, 400, lambda: rule(field="model", operator="regex", value="(?=x)"), "filter_rules.groups"),
        (bad, 400, lambda: rule(field="total_cost", operator="gt", value="much"), "filter_rules.groups"),
        (bad, 400, lambda: rule(field="model", operator="gt", value=3), "filter_rules.groups"),
        (bad, 400, lambda: sdk.observability.create(type_="langfuse", name="x", config={"publicKey": ""}), "config.publicKey", "config.secretKey"),
        (bad, 400, lambda: sdk.observability.create(type_="s3", name="x", config={"bucketName": "b"}), "config.accessKeyId"),
        (bad, 400, lambda: sdk.observability.create(type_="s3", name="x", config={"bucketName": "b", "authMode": "iam_role"}), "config.roleArn"),
        (bad, 400, lambda: patch(sampling_rate=7), "sampling_rate"),
        (bad, 400, lambda: patch(config={"url": ""}), "config.url"),
        (bad, 400, lambda: sdk.observability.list(limit=101), "limit"),
        (bad, 400, lambda: sdk.observability.list(offset=-1), "offset"),
        (bad, 400, lambda: sdk.observability.list(workspace_id=NOWHERE), "workspace_id"),
        (missing, 404, lambda: sdk.observability.get(id=NOWHERE)),
        (missing, 404, lambda: sdk.observability.get(id="no-uuid")),
        (missing, 404, lambda: sdk.observability.update(id=NOWHERE, name="x")),
        (missing, 404, lambda: sdk.observability.delete(id=NOWHERE)),
        (bad, 400, lambda: sdk.api_keys.create(name=""), "name"),
        (bad, 400, lambda: sdk.api_keys.create(name="x", limit=-1), "limit"),
        (bad, 400, lambda: sdk.api_keys.create(name="x", expires_at=past), "expires_at"),
        (bad, 400, lambda: sdk.api_keys.create(name="x", workspace_id=NOWHERE), "workspace_id"),
        (bad, 400, lambda: sdk.api_keys.create(name="x", external={"user": "u", "api_key": "short"}), "external.api_key"),
        (bad, 400, lambda: sdk.api_keys.update(hash=key.hash, workspace_id=NOWHERE), "workspace_id"),
        (missing, 404, lambda: sdk.api_keys.get(hash="00" * 32)),
        (missing, 404, lambda: sdk.api_keys.get(hash="no-hash")),
        (missing, 404, lambda: sdk.api_keys.update(hash="00" * 32, name="x")),
        (missing, 404, lambda: sdk.api_keys.delete(hash="00" * 32)),
        (bad, 400, lambda: sdk.workspaces.create(name="", slug="a"), "name"),
        (bad, 400, lambda: sdk.workspaces.create(name="n" * 101, slug="a"), "name"),
        (bad, 400, lambda: sdk.workspaces.create(name="n", slug="No Slug"), "slug"),
        (bad, 400, lambda: sdk.workspaces.create(name="n", slug="default"), "slug"),
        (bad, 400, lambda: sdk.workspaces.create(name="n", slug="n", description="d" * 501), "description"),
        (bad, 400, lambda: sdk.workspaces.create(name="n", slug="n", io_logging_sampling_rate=2), "io_logging_sampling_rate"),
        (bad, 400, lambda: sdk.workspaces.update(id="default", slug="-"), "slug"),
        (missing, 404, lambda: sdk.workspaces.get(id="nowhere")),
        (missing, 404, lambda: sdk.workspaces.update(id=NOWHERE, name="x")),
        (missing, 404, lambda: sdk.workspaces.delete(id=NOWHERE)),
    ]
    # What the config file declares.
    declared = [d for d in sdk.observability.list().result.data if d.name == "from the file"]
    listed = [k for k in sdk.api_keys.list().data if k.name == "tests"]
    cases += [
        (conflict, 409, lambda: sdk.observability.update(id=declared[0].id, enabled=False), "config file"),
        (conflict, 409, lambda: sdk.api_keys.update(hash=listed[0].hash, name="x"), "config file"),
    ]
    for _ in range(4):
        hook()
    cases.append((conflict, 409, hook, "5"))

    # Every operation, with a key that may not and with a key nobody has.
    operations = lambda sdk: [
        (True, sdk.observability.list), (True, lambda: sdk.observability.create(type_="webhook", name="x", config={"url": url})),
        (True, lambda: sdk.observability.get(id=one.id)), (True, lambda: sdk.observability.update(id=one.id, name="x")),
        (True, lambda: sdk.observability.delete(id=one.id)),
        (False, sdk.api_keys.list), (True, lambda: sdk.api_keys.create(name="x")), (False, lambda: sdk.api_keys.get(hash=key.hash)),
        (True, lambda: sdk.api_keys.update(hash=key.hash, name="x")), (False, lambda: sdk.api_keys.delete(hash=key.hash)),
        (True, sdk.workspaces.list), (True, lambda: sdk.workspaces.create(name="x", slug="x")), (True, lambda: sdk.workspaces.get(id="default")),
        (True, lambda: sdk.workspaces.update(id="default", name="x")), (True, lambda: sdk.workspaces.delete(id="default")),
    ]
    for declares_403, attempt in operations(client(base, ordinary)):
        # Where the SDK declares no 403 it has only its general exception.
        expected = errors.ForbiddenResponseError if declares_403 else errors.OpenRouterDefaultError
        cases.append((expected, 403, attempt, "Only management keys can perform this operation"))
    for key_nobody_has, words in (("sk-tc-mgmt-" + "0" * 64, []), (None, ["Missing Authentication header"])):
        stranger = client(base, key_nobody_has)
        for _, attempt in [*operations(stranger), (False, stranger.api_keys.get_current_key_metadata)]:
            cases.append((errors.UnauthorizedResponseError, 401, attempt, *words))

    failures = []
    for number, (expected, status, attempt, *words) in enumerate(cases):
        try:
            text = refused(expected, status, attempt, *words)
            error = json.loads(text)["error"]
            assert error["code"] == status and error["message"], text
        except AssertionError as failure:
            failures.append(f"case {number} (line {attempt.__code__.co_firstlineno if hasattr(attempt, '__code__') else '?'}): {failure}")
    assert not failures, "\n".join(failures)
    assert sdk.observability.get(id=one.id).data == one, "a refused write changed something"
    print(json.dumps({"refusals": len(cases)}))


main()
