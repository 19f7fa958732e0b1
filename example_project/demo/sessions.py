"""Cookies, and logging in with name and password, as a browser does."""

from http.cookies import SimpleCookie

from .client import Address, Answer, Client

LOGIN = "/login?next=/tickets"
FORM = "application/x-www-form-urlencoded"


def log_in(address: Address, name: str, password: str) -> Client:
    """Return a client with the cookies of a session.

    :raises RuntimeError: if the server refuses
    """
    somebody = Client(address)
    visitor = with_cookies(somebody, somebody.get(LOGIN))
    answer = visitor.post(LOGIN, {"username": name, "password": password})
    if answer.status != 302:
        raise RuntimeError(f"The login of {name} was answered with {answer.status}.")
    return with_cookies(visitor, answer)


def with_cookies(client: Client, answer: Answer) -> Client:
    """Return a client that sends forms, with the cookies that an answer has set, too."""
    cookies = SimpleCookie(client.headers.get("Cookie", ""))
    for line in answer.headers.get_all("Set-Cookie", []):
        cookies.load(line)
    return Client(
        client.address,
        {
            "Content-Type": FORM,
            "Cookie": "; ".join(f"{name}={morsel.value}" for name, morsel in cookies.items()),
            "X-CSRFToken": cookies["csrftoken"].value,
        },
    )
