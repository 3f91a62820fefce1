"""Keys and passwords that are given in a URI: taken out of it, kept in this process's memory, and shown to nobody.

``take`` stands wherever a URI comes in: what it returns may be written and printed anywhere. ``restored`` stands where
storage is opened. Another process is given ``kept()``, and calls ``keep`` with it. ``hide`` cleans a text that another
library wrote. Where no key is given, a storage's own tools find theirs (see trainer.common.storage).
"""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote

HIDDEN: Final = "***"
Kept = dict[str, tuple[str, tuple[str, ...]]]
"""By URI without its secrets: what stands before the host, and the secret parts of the query"""

_SHORTEST: Final = 8  # characters of a secret that a text is searched for: a shorter one may be a part of any word
_SECRET_WORDS: Final = "secret|token|passw|pwd|account_key|access_key|signature"  # in a name, that its value is secret
_USERINFO: Final = re.compile(r"[\w.~!$&'()*+,;=%-]*(:[\w.~!$&'()*+,;=:%-]*)?", re.ASCII)  # RFC 3986
_EXAMPLES: Final = "KEY:SECRET@|user:password@"  # stand in messages and help texts
# A text may be long: each pattern begins at few places, and never goes over the same part of a text again.
_IN_TEXT: Final = re.compile(
    rf"\b([a-z][a-z0-9+.-]{{0,30}}):(/{{1,2}})(?!\w[\w.-]*:\d+/|{_EXAMPLES})([^\s:/@?#]*):", re.IGNORECASE
)
_BARE: Final = re.compile(  # KEY:SECRET@ without the scheme of a URI, or with one that lacks its colon
    r"(?<![^\s'\"(=])(?!(?:KEY|user):)[\w/+%.~-]{4,}:(?!/)[^\s:@'\"]{4,}@", re.ASCII
)
_END: Final = re.compile(r"[\s'\"]|\Z")  # of what may be a password
_SECRET_NAME: Final = rf"(?<![\w.-])((?:(?>[\w.-]*?(?:{_SECRET_WORDS}))[\w.-]*+|[\w.-]++(?<=\bsig))(?:=|%3D))"
_IN_QUERY: Final = re.compile(rf"{_SECRET_NAME}[^&\s'\")]+", re.IGNORECASE)
_STORAGE: Final = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs")  # what pyarrow.fs knows, but for files

_ONE_SLASH: Final = re.compile(rf"({'|'.join(_STORAGE)})(?::/?|//)", re.IGNORECASE)  # or no colon
_USERS_SHOWN: Final = re.compile(  # schemes in which a user's name is no key
    r"(gs|gcs|abfss?|hdfs|viewfs|https?|ftp|socks\w*|(postgres|mysql|mariadb|mssql|oracle|sqlite|redis)\w*)(\+\w+)?",
    re.IGNORECASE,
)

_kept: Kept = {}
_words: set[str] = set()  # secrets as they were written and as they are meant


def take(uri: str) -> str:
    """A URI without its keys, which this process keeps; a path, or a URI that is none of a storage, as it is.

    Raises ValueError, which does not repeat the URI, if its keys cannot be told from the rest.

    >>> take("s3://KEYOFMINE:SECRETOFMINE@bucket/asl?region=eu-west-1")
    's3://bucket/asl?region=eu-west-1'
    >>> restored("s3://bucket/asl/trials?region=eu-west-1")
    's3://KEYOFMINE:SECRETOFMINE@bucket/asl/trials?region=eu-west-1'
    >>> hide("SECRETOFMINE is not known")
    '*** is not known'
    """
    scheme, separator, rest = uri.partition("://")
    if not separator and (one := _ONE_SLASH.match(uri)):
        proper = hide(f"{one[1]}://{uri[one.end() :]}")
        raise ValueError(
            f"a URI has a colon and two slashes: write {proper}; or ./ before the name of a folder on this machine"
        )
    if not separator or scheme.lower() not in _STORAGE:
        return uri
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    userinfo, _, host = authority.rpartition("@")
    _check(scheme.lower(), userinfo, host, rest)
    tail, question, query = rest[len(authority) :].partition("?")
    parts = query.split("&")
    secret_parts = tuple(part for part in parts if has_secret(f"{part.partition('=')[0]}="))
    if any("@" in unquote(part) for part in parts if part not in secret_parts):
        raise ValueError("has a user's name or a password in what follows the question mark; leave it out")
    user, colon, _ = userinfo.partition(":")
    if scheme.lower() == "s3":
        user = ""
    if not colon and not secret_parts:
        return uri
    public = "&".join(part for part in parts if part not in secret_parts)
    clean = f"{scheme}://{user}{'@' if user else ''}{host}{tail}{question if public else ''}{public}"
    keep({clean: (userinfo, secret_parts)})
    return clean


def _check(scheme: str, userinfo: str, host: str, rest: str) -> None:
    """Raise ValueError if what stands before the host is no user's name and password."""
    _, colon, port = host.rpartition(":")
    is_cut = bool(colon) and (
        scheme == "s3" or not port.isdecimal() or (not userinfo and "@" in rest and scheme != "hdfs")
    )
    if is_cut or not _USERINFO.fullmatch(userinfo):
        raise ValueError(
            f"a key in a URI of {scheme}:// must have / @ : ? # and % written as %2F %40 %3A %3F %23 and %25; or leave "
            f"it out, and {how_to_give_keys(scheme)}"
        )
    if scheme == "s3" and userinfo and not (userinfo.partition(":")[0] and userinfo.partition(":")[2]):
        raise ValueError(f"a key needs its secret; leave it out, or {how_to_give_keys(scheme)}")


def how_to_give_keys(uri: str) -> str:
    """Advice for who must give the keys of a URI, of which the scheme alone matters."""
    if uri.partition(":")[0].lower() == "s3":
        return "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write s3://KEY:SECRET@bucket/..."
    return "set them where that storage's own tools look for them, or write them into the URI again"


def restored(uri: str) -> str:
    """A URI with the keys that were taken out of it, or else out of the nearest one in the same bucket."""
    scheme, _, rest = uri.partition("://")
    there, question, query = rest.partition("?")
    near = [other for other in _kept if _place(other) == _place(uri)]
    if not near:
        return uri
    userinfo, secret_parts = _kept[max(near, key=lambda other: _common(other, uri))]
    host = there.rpartition("@")[2] if "@" in there.split("/")[0] else there
    parts = [*([query] if question and query else []), *secret_parts]
    return f"{scheme}://{userinfo}{'@' if userinfo else ''}{host}{'?' if parts else ''}{'&'.join(parts)}"


def _place(uri: str) -> tuple[str, str]:
    """A URI's bucket, and how it is reached."""
    there, _, query = uri.partition("?")
    return "/".join(there.split("/")[:3]), query


def _common(one: str, other: str) -> int:
    """How many folders two URIs have in common."""
    pairs = zip(one.partition("?")[0].split("/"), other.partition("?")[0].split("/"), strict=False)
    return next((count for count, (a, b) in enumerate(pairs) if a != b), len(one.partition("?")[0].split("/")))


def has_keys(uri: str) -> bool:
    """Whether a URI cannot be opened as it is written, because its keys were taken out of it."""
    return restored(uri) != uri


def kept() -> Kept:
    """What another process needs to open the same URIs; secret, so not to be written or printed."""
    return dict(_kept)


def keep(others: Kept) -> None:
    """Have this process open URIs with keys that another one, or ``take``, found."""
    _kept.update(others)
    for uri, (userinfo, secret_parts) in others.items():
        user, _, password = userinfo.partition(":")
        secret([userinfo, password, *(part.partition("=")[2] for part in secret_parts)])
        secret([user] if uri.lower().startswith("s3:") else [])


def secret(words: Iterable[str]) -> None:
    """Have ``hide`` know words that must not be shown, in whichever way they are written."""
    for word in words:
        _words.update(form for form in (word, unquote(word)) if len(form) >= _SHORTEST)


def hide(text: str) -> str:
    """A text without the secrets that this process was given, and without what looks like a password in a URI.

    >>> hide("cannot reach postgresql://me:word@host/db")
    'cannot reach postgresql://me:***@host/db'
    """
    for word in sorted(_words, key=len, reverse=True):
        text = text.replace(word, HIDDEN)
    return _IN_QUERY.sub(rf"\1{HIDDEN}", _BARE.sub(f"{HIDDEN}@", _without_passwords(text)))


def has_secret(query: str) -> bool:
    """Whether a text such as "user=me&password=word" has a name whose value is secret."""
    return re.search(_SECRET_NAME, query, re.IGNORECASE) is not None


def _without_passwords(text: str) -> str:
    """A text without what stands between a URI's user and the last @ of the same word."""
    parts: list[str] = []
    done = begin = searched = 0  # before ``searched``, no @ follows
    while found := _IN_TEXT.search(text, begin):
        begin = found.end(2)
        if found.end() < searched:
            continue
        end = _END.search(text, found.end()).start()  # type: ignore[union-attr]
        at = text.rfind("@", found.end(), end)
        searched = end
        if at >= 0:
            parts += [text[done : found.start(3)], _hidden_user(found[1], found[3])]
            done = begin = at
    return "".join([*parts, text[done:]])


def _hidden_user(scheme: str, user: str) -> str:
    return f"{user}:{HIDDEN}" if _USERS_SHOWN.fullmatch(scheme) else HIDDEN
