"""Logging in with name and password, as a browser does."""

from http.cookies import SimpleCookie

from .client import Address, Answer, Client

LOGIN = "/login?next=/tickets"
FORM = "application/x-www-form-urlencoded"


def log_in(address: Address, name: str, password: str) -> Client:
    """Return a client with the cookies of a session.

    :raises RuntimeError: if the server refuses
    """
    visitor = _with_cookies(address, Client(address).get(LOGIN))
    answer = visitor.post(LOGIN, {"username": name, "password": password})
    if answer.status != 302:
        raise RuntimeError(f"The login of {name} was answered with {answer.status}.")
    return _with_cookies(address, answer)


def _with_cookies(address: Address, answer: Answer) -> Client:
    cookies = SimpleCookie()
    for line in answer.headers.get_all("Set-Cookie", []):
        cookies.load(line)
    return Client(
        address,
        {
            "Content-Type": FORM,
            "Cookie": "; ".join(f"{name}={morsel.value}" for name, morsel in cookies.items()),
            "X-CSRFToken": cookies["csrftoken"].value,
        },
    )
