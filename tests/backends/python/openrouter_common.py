"""What the scripts that drive the official OpenRouter SDK have in common."""
import httpx
from openrouter import OpenRouter, errors

DEFAULT_WORKSPACE = "74726163-6563-4173-8000-000000000001"
# Shown by us in addition; the SDK ignores them.
ADDITIVE = {"managed_by", "state"}


def client(base, key):
    # Without this a single 500 keeps the SDK busy for an hour.
    return OpenRouter(api_key=key, server_url=base, retry_config=None)


def call(method, url, key, body=None):
    response = httpx.request(method, url, headers={"authorization": f"Bearer {key}"}, json=body, timeout=30)
    return response.status_code, response.json()


def mask(secret):
    return f"{secret[:4]}...{secret[-4:]}" if len(secret) >= 12 else "***"


def refused(expected, status, attempt, *words):
    """The attempt fails with exactly this class; gives the text a user reads."""
    try:
        answer = attempt()
    except errors.OpenRouterError as error:
        assert type(error) is expected, f"{type(error).__name__} ({error.status_code} {error.body}), not {expected.__name__}"
        assert error.status_code == status, (error.status_code, error.body)
        for word in words:
            assert word in error.body, f"{word!r} is not in {error.body}"
        return error.body
    raise AssertionError(f"answered {answer!r} and not {expected.__name__}")


def dump(model):
    return model.model_dump(by_alias=True, mode="json", exclude_unset=True)
