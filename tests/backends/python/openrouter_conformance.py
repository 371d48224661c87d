"""The control API as the official OpenRouter SDK sees it: every answer passes its models.

usage: openrouter_conformance.py destinations ADMIN MANAGEMENT_KEY S3_CONFIG
       openrouter_conformance.py keys|workspaces ADMIN MANAGEMENT_KEY
prints a report as JSON
"""
import base64
import gzip
import hashlib
import json
import sys
import threading
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
from openrouter import errors
from openrouter.components.observabilitydestination import _OBSERVABILITY_DESTINATION_VARIANTS as KINDS

from openrouter_common import ADDITIVE, DEFAULT_WORKSPACE, call, client, dump, mask, refused

class Vendor:
    """Stands in for any vendor: 401 unless the request carries one of the secrets it was told, else 200."""

    def __init__(self):
        self.secrets = set()
        vendor = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def answer(self):
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                said = [*self.headers.values(), self.path, body.decode("utf-8", "replace")]
                for value in self.headers.values():
                    scheme, _, pair = value.partition(" ")
                    if scheme.lower() == "basic":
                        said.append(base64.b64decode(pair).decode())
                known = any(secret in text for secret in vendor.secrets for text in said)
                # The number is how ClickHouse says it.
                text = b"{}" if known else b'{"message": "Code: 516. DB::Exception: Authentication failed"}'
                self.send_response(200 if known else 401)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PUT = do_HEAD = answer

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"


def configs(url, s3):
    """Per kind a valid config, and the secret (by its path) which a vendor checks."""
    bearer = "Bearer header-secret-0001"
    key = "vendor-secret-0001"
    return {
        "arize": ({"apiKey": key, "spaceKey": "space-key-0001", "modelId": "m", "baseUrl": url}, ["apiKey"]),
        "braintrust": ({"apiKey": key, "projectId": "p", "baseUrl": url}, ["apiKey"]),
        "clickhouse": ({"host": url, "database": "default", "username": "default", "password": key}, ["password"]),
        "datadog": ({"apiKey": key, "mlApp": "app", "url": url}, ["apiKey"]),
        "grafana": ({"apiKey": key, "instanceId": "1234", "baseUrl": url}, ["apiKey"]),
        "langfuse": ({"publicKey": "pk-lf-public-0001", "secretKey": key, "baseUrl": url}, ["secretKey"]),
        "langsmith": ({"apiKey": key, "endpoint": url, "project": "p"}, ["apiKey"]),
        "newrelic": ({"licenseKey": key, "region": "eu", "baseUrl": url}, ["licenseKey"]),
        "opik": ({"apiKey": key, "workspace": "w", "projectName": "p", "baseUrl": url}, ["apiKey"]),
        "otel-collector": ({"endpoint": url + "/v1/traces", "headers": {"authorization": bearer}}, ["headers", "authorization"]),
        "posthog": ({"apiKey": key, "endpoint": url}, ["apiKey"]),
        "ramp": ({"apiKey": key, "baseUrl": url}, ["apiKey"]),
        "s3": (s3, ["secretAccessKey"]),
        "sentry": ({"dsn": f"https://{'5' * 32}@sentry.example/42", "otlpEndpoint": url + "/v1/traces"}, ["dsn"]),
        "snowflake": ({"account": "abc12345.us-east-1", "token": key, "baseUrl": url}, ["token"]),
        "weave": ({"apiKey": key, "entity": "e", "project": "p", "baseUrl": url}, ["apiKey"]),
        "webhook": ({"url": url + "/hook", "method": "PUT", "headers": {"authorization": bearer}}, ["headers", "authorization"]),
    }


def at(config, path, value=None):
    """The value at the path; with `value`, a config that has only this path."""
    if value is not None:
        for name in reversed(path):
            value = {name: value}
        return value
    for name in path:
        config = config[name]
    return config


class Destinations:
    def __init__(self, admin, management, s3):
        self.base, self.key = admin + "/api/v1", management
        self.sdk = client(self.base, management)
        self.vendor = Vendor()
        self.vendor.secrets = {"vendor-secret-0001", "header-secret-0001", "5" * 32}
        self.configs = configs(self.vendor.url, s3)

    def diagnosis(self, id):
        status, answer = call("POST", f"{self.base}/observability/destinations/{id}/test", self.key)
        assert status == 200, answer
        return answer["data"]["diagnosis"]

    def run(self):
        assert set(self.configs) == set(KINDS), set(self.configs) ^ set(KINDS)
        for kind, (config, secret) in sorted(self.configs.items()):
            self.life(kind, config, secret)
        self.documented_examples()
        return {"kinds": sorted(self.configs)}

    def life(self, kind, config, secret):
        observability = self.sdk.observability
        workspace = self.sdk.workspaces.create(name=f"for {kind}", slug=f"for-{kind}").data.id

        # Create, get: one of the SDK's models of that kind, with every default.
        made = observability.create(type_=kind, name="one", config=config, workspace_id=workspace).data
        assert type(made) is KINDS[kind], f"{kind}: {made!r}"
        shown = dump(made)
        expected = {
            "type": kind, "name": "one", "workspace_id": workspace, "enabled": True, "privacy_mode": False,
            "sampling_rate": 1, "api_key_hashes": None, "filter_rules": None, "regions": ["global"],
            "broadcast_generation_cost": False, "broadcast_generation_identity": False,
            "broadcast_generation_request_context": False, "broadcast_generation_cost_allocation": False,
            "id": made.id, "created_at": made.created_at, "updated_at": made.created_at,
        }
        assert {name: value for name, value in shown.items() if name != "config"} == expected, shown
        datetime.strptime(made.created_at, "%Y-%m-%dT%H:%M:%S.%fZ")
        assert at(shown["config"], secret) == mask(at(config, secret)), shown
        _, raw = call("GET", f"{self.base}/observability/destinations/{made.id}", self.key)
        assert at(config, secret) not in json.dumps(raw), raw
        for name, given in config.items():
            echoed = raw["data"]["config"][name]
            masked = {n: mask(v) for n, v in given.items()} if name == "headers" else mask(str(given))
            assert echoed in (given, masked), f"{kind}: {name} is {given!r} and is shown as {echoed!r}"
        assert dump(observability.get(id=made.id).data) == shown

        # List: two pages, in the order of creation.
        ids = [made.id]
        for name in ["two", "three"]:
            ids.append(observability.create(type_=kind, name=name, config=config, workspace_id=workspace).data.id)
        page = observability.list(limit=2, workspace_id=workspace)
        assert page.result.total_count == 3 and [d.id for d in page.result.data] == ids[:2], page.result
        page = page.next()
        assert page.result.total_count == 3 and [d.id for d in page.result.data] == ids[2:], page.result
        assert page.next() is None

        # Update: set everything.
        rules = {"enabled": True, "groups": [{"logic": "or", "rules": [
            {"field": "model", "operator": "contains", "value": "gpt"}, {"field": "total_cost", "operator": "gt", "value": 0.5}]}]}
        flags = {f"broadcast_generation_{flag}": True for flag in ["cost", "identity", "request_context", "cost_allocation"]}
        changes = {"name": "renamed", "enabled": False, "privacy_mode": True, "sampling_rate": 0.25, "api_key_hashes": ["ab" * 32], **flags}
        updated = dump(observability.update(id=made.id, filter_rules=rules, regions=["eu", "us"], **changes).data)
        expected = {**shown, **changes, "filter_rules": rules, "regions": ["europe", "us"], "updated_at": updated["updated_at"]}
        assert updated == expected, updated
        assert updated["updated_at"] >= shown["updated_at"]
        assert dump(observability.get(id=made.id).data) == updated

        # Absence keeps, null clears.
        assert dump(observability.update(id=made.id, name="renamed").data)["api_key_hashes"] == ["ab" * 32]
        cleared = dump(observability.update(id=made.id, api_key_hashes=None, filter_rules=None).data)
        assert cleared == {**updated, "api_key_hashes": None, "filter_rules": None, "updated_at": cleared["updated_at"]}, cleared

        # The vendor knows the secret; masked values sent back leave it; another one is refused by the vendor.
        accepted = self.diagnosis(made.id)
        assert accepted != "auth" and accepted != "connect", f"{kind}: {accepted}"
        observability.update(id=made.id, config=cleared["config"])
        assert self.diagnosis(made.id) == accepted, f"{kind}: a masked config sent back changed the secret"
        wrong = f"https://{'6' * 32}@sentry.example/42" if kind == "sentry" else "wrong-secret-9999"
        observability.update(id=made.id, config=at(None, secret, wrong))
        assert self.diagnosis(made.id) == "auth", f"{kind}: the vendor does not check"
        # An older read's mask does not become the secret either.
        observability.update(id=made.id, config=cleared["config"])
        assert self.diagnosis(made.id) == "auth", f"{kind}: a mask was stored"
        observability.update(id=made.id, config=at(None, secret, at(config, secret)))
        assert self.diagnosis(made.id) == accepted

        # A whole GET body is a PATCH that changes nothing.
        path = f"{self.base}/observability/destinations/{made.id}"
        _, whole = call("GET", path, self.key)
        status, again = call("PATCH", path, self.key, whole["data"])
        assert status == 200, again
        for body in (whole, again):
            # When it was written, and how its deliveries fare.
            body["data"].pop("updated_at"), body["data"].pop("state")
        assert whole == again, again

        # Delete: gone for get, list, update and another delete.
        assert observability.delete(id=made.id).DELETED is True
        for attempt in (observability.get, observability.delete, lambda id: observability.update(id=id, name="x")):
            refused(errors.NotFoundResponseError, 404, lambda: attempt(id=made.id))
        left = observability.list(workspace_id=workspace).result
        assert left.total_count == 2 and [d.id for d in left.data] == ids[1:], left

    def documented_examples(self):
        """The vendor's documented requests, and each field of its documented answers."""
        body = {
            "config": {"baseUrl": "https://us.cloud.langfuse.com", "publicKey": "pk-l...EfGh", "secretKey": "sk-l...AbCd"},
            "name": "Production Langfuse", "type": "langfuse",
        }
        url = f"{self.base}/observability/destinations"
        status, created = call("POST", url, self.key, body)
        assert status == 201, created
        data = {name: value for name, value in created["data"].items() if name not in ADDITIVE}
        assert set(created) == {"data"}
        expected = {
            "api_key_hashes": None, "config": body["config"], "created_at": data["created_at"], "enabled": True,
            "filter_rules": None, "id": data["id"], "name": "Production Langfuse", "privacy_mode": False,
            "sampling_rate": 1, "type": "langfuse", "updated_at": data["created_at"], "workspace_id": DEFAULT_WORKSPACE,
            # The newer ones.
            "regions": ["global"], "broadcast_generation_cost": False, "broadcast_generation_identity": False,
            "broadcast_generation_request_context": False, "broadcast_generation_cost_allocation": False,
        }
        assert data == expected, data
        status, updated = call("PATCH", f"{url}/{data['id']}", self.key, {"enabled": False, "name": "Updated Langfuse"})
        assert status == 200, updated
        after = {name: value for name, value in updated["data"].items() if name not in ADDITIVE}
        assert after == {**expected, "enabled": False, "name": "Updated Langfuse", "updated_at": after["updated_at"]}, after
        assert self.sdk.observability.delete(id=data["id"]).DELETED is True


def keys(admin, management):
    base = admin + "/api/v1"
    sdk = client(base, management)
    expires = datetime(2027, 12, 31, 23, 59, 59, tzinfo=timezone.utc)
    created = sdk.api_keys.create(
        name="My Production Key", limit=100, limit_reset="monthly", expires_at=expires, include_byok_in_limit=True
    )
    secret, key = created.key, created.data
    assert secret.startswith("sk-tc-v1-") and len(secret) == 9 + 64, "the shape of the key"
    assert key.hash == hashlib.sha256(secret.encode()).hexdigest()
    assert key.label == f"{secret[:12]}...{secret[-4:]}", key.label
    shown = dump(key)
    expected = {
        "name": "My Production Key", "disabled": False, "limit": 100, "limit_remaining": 100, "limit_reset": "monthly",
        "include_byok_in_limit": True, "expires_at": "2027-12-31T23:59:59Z", "updated_at": None, "last_used_at": None,
        "external_user": None, "workspace_id": DEFAULT_WORKSPACE, "creator_user_id": None,
        **{f"{kind}usage{window}": 0 for kind in ("", "byok_") for window in ("", "_daily", "_weekly", "_monthly")},
    }
    assert {name: shown[name] for name in expected} == expected, shown
    assert dump(sdk.api_keys.get(hash=key.hash).data) == shown

    # What a key may know of itself.
    own = client(base, secret).api_keys.get_current_key_metadata().data
    assert own.label == key.label and own.is_management_key is False and own.limit == 100, own
    assert own.effective_budget.scope == "key_limit" and own.effective_budget.remaining_usd == 100, own
    assert sdk.api_keys.get_current_key_metadata().data.is_management_key is True

    # Set, then clear with null; absence keeps.
    workspace = sdk.workspaces.create(name="Team", slug="team").data.id
    updated = dump(sdk.api_keys.update(hash=key.hash, name="renamed", limit=5.5, limit_reset="daily", workspace_id=workspace).data)
    changes = {"name": "renamed", "limit": 5.5, "limit_remaining": 5.5, "limit_reset": "daily", "workspace_id": workspace}
    assert updated == {**shown, **changes, "updated_at": updated["updated_at"], "last_used_at": updated["last_used_at"]}, updated
    cleared = dump(sdk.api_keys.update(hash=key.hash, limit=None, limit_reset=None).data)
    assert (cleared["limit"], cleared["limit_remaining"], cleared["limit_reset"]) == (None, None, None), cleared
    assert (cleared["name"], cleared["workspace_id"]) == ("renamed", workspace), cleared

    # Disabled: not in the list unless asked for, and of no use.
    assert [k.hash for k in sdk.api_keys.list(workspace_id=workspace).data] == [key.hash]
    assert sdk.api_keys.update(hash=key.hash, disabled=True).data.disabled is True
    assert sdk.api_keys.list(workspace_id=workspace).data == []
    assert [k.hash for k in sdk.api_keys.list(workspace_id=workspace, include_disabled=True).data] == [key.hash]
    refused(errors.UnauthorizedResponseError, 401, client(base, secret).api_keys.get_current_key_metadata)

    # A key that exists elsewhere is known by its hash and never returned.
    foreign = "sk-or-v1-" + "0e6f44a47a05f1dad2ad7e88c4c1d6b77688157716fb1a5271146f7464951c96"
    imported = sdk.api_keys.create(name="imported", external={"user": "partner-7", "api_key": foreign})
    assert imported.data.hash == hashlib.sha256(foreign.encode()).hexdigest()
    assert imported.key == imported.data.label == "sk-or-v1-0e6...1c96", imported.key
    assert imported.data.external_user == "partner-7"
    assert client(base, foreign).api_keys.get_current_key_metadata().data.label == imported.data.label

    # 100 a page, the newest first.
    many = sdk.workspaces.create(name="Many", slug="many").data.id
    made = [sdk.api_keys.create(name=f"k{n}", workspace_id=many).data.hash for n in range(103)]
    first = [k.hash for k in sdk.api_keys.list(workspace_id=many).data]
    second = [k.hash for k in sdk.api_keys.list(workspace_id=many, offset=100).data]
    assert first + second == made[::-1] and len(first) == 100, "the pages are not the keys, newest first"

    assert sdk.api_keys.delete(hash=key.hash).DELETED is True
    for attempt in (sdk.api_keys.get, sdk.api_keys.delete, lambda hash: sdk.api_keys.update(hash=hash, name="x")):
        refused(errors.NotFoundResponseError, 404, lambda: attempt(hash=key.hash))
    return {"keys": len(made) + 2}


def workspaces(admin, management):
    sdk = client(admin + "/api/v1/", management)
    default = sdk.workspaces.get(id="default").data
    assert default.id == DEFAULT_WORKSPACE and default.is_observability_broadcast_enabled is True, default
    fields = {
        "name": "Production", "slug": "production", "description": "what customers use",
        "default_text_model": "openai/gpt-4o", "default_image_model": "openai/dall-e-3", "default_provider_sort": "price",
        "io_logging_sampling_rate": 0.5, "io_logging_api_key_ids": [1, 2], "is_observability_io_logging_enabled": True,
        "is_observability_broadcast_enabled": False, "is_data_discount_logging_enabled": True,
    }
    made = sdk.workspaces.create(**fields, disabled_server_tools=["openrouter:web_search"]).data
    shown = dump(made)
    assert {name: shown[name] for name in fields} == fields, shown
    assert shown["disabled_server_tools"] == ["openrouter:web_search"] and shown["updated_at"] is None, shown
    assert made.default_guardrail_id
    assert dump(sdk.workspaces.get(id=made.id).data) == dump(sdk.workspaces.get(id="production").data) == shown

    plain = sdk.workspaces.create(name="Plain", slug="plain").data
    assert plain.is_observability_broadcast_enabled is True and plain.io_logging_sampling_rate == 1, plain
    assert plain.io_logging_api_key_ids is None and plain.description is None, plain
    page = sdk.workspaces.list(limit=2)
    assert page.result.total_count == 3 and [w.slug for w in page.result.data] == ["default", "production"], page.result
    page = page.next()
    assert [w.slug for w in page.result.data] == ["plain"] and page.next() is None, page.result

    # By slug, and the slug itself; null clears, absence keeps.
    renamed = dump(sdk.workspaces.update(id="production", slug="prod", name="Prod").data)
    assert renamed == {**shown, "slug": "prod", "name": "Prod", "updated_at": renamed["updated_at"]}, renamed
    refused(errors.NotFoundResponseError, 404, lambda: sdk.workspaces.get(id="production"))
    nullable = ["description", "default_text_model", "default_image_model", "default_provider_sort", "io_logging_api_key_ids"]
    cleared = dump(sdk.workspaces.update(id=made.id, **dict.fromkeys(nullable)).data)
    assert cleared == {**renamed, **dict.fromkeys(nullable), "updated_at": cleared["updated_at"]}, cleared

    # Deleted with what is in it; a workspace in use and the default one are protected.
    destination = sdk.observability.create(
        type_="webhook", name="inside", config={"url": "http://127.0.0.1:9/x"}, workspace_id=made.id).data.id
    key = sdk.api_keys.create(name="inside", workspace_id=made.id).data.hash
    refused(errors.BadRequestResponseError, 400, lambda: sdk.workspaces.delete(id="prod"), "active keys")
    refused(errors.BadRequestResponseError, 400, lambda: sdk.workspaces.delete(id="default"), "confirm_default_workspace_deletion")
    assert sdk.api_keys.delete(hash=key).DELETED is True
    assert sdk.workspaces.delete(id="prod").DELETED is True
    refused(errors.NotFoundResponseError, 404, lambda: sdk.workspaces.get(id=made.id))
    refused(errors.NotFoundResponseError, 404, lambda: sdk.observability.get(id=destination))
    assert sdk.workspaces.delete(id=plain.id).DELETED is True
    assert sdk.workspaces.list().result.total_count == 1
    return {"workspaces": 2}


def main():
    part, admin, management = sys.argv[1:4]
    if part == "destinations":
        report = Destinations(admin, management, json.loads(sys.argv[4])).run()
    else:
        report = {"keys": keys, "workspaces": workspaces}[part](admin, management)
    print(json.dumps(report))


main()
