"""The Hugging Face hub, seen from a machine that may have no network."""

import ssl
import urllib.error
import urllib.request


def reachable(address: str, seconds: float = 5) -> bool:
    """Whether a server answers at all."""
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=seconds).close()
    except urllib.error.HTTPError:
        return True  # it answers
    except urllib.error.URLError as error:
        return isinstance(error.reason, ssl.SSLError)  # the hub's library brings certificates of its own
    except OSError:
        return False
    return True


def first_line(error: Exception) -> str:
    """What an error says in its first line, or its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
