"""The Hub and its cache: folders come down, folders go up, and what goes wrong is told in one sentence."""

import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import (
    constants,
    create_branch,
    create_repo,
    file_exists,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    model_info,
    snapshot_download,
    upload_folder,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import get_session, httpx

from ..errors import RepositoryError

REPOSITORY_NAME = re.compile(r"[\w.-]+/[\w.-]+")
TIMEOUT = 5  # seconds to reach the Hub where something else will do; its own client would try for half a minute
LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"


@contextmanager
def explained(
    place: str | os.PathLike, revision: str | None = None, purpose: str = "read", local: bool = True
) -> Iterator[None]:
    """Turn the failures of the Hub's client (and of loading from a folder) inside into one sentence.

    Args:
        place: the folder or Hub repository that is being worked with.
        revision: the one that was asked for.
        purpose: "read" or "write".
        local: whether it may be a folder.

    Raises:
        RepositoryError: in place of every OSError, connection error and name that the Hub would not take.
    """
    try:
        yield
    except RepositoryError:
        raise
    except (OSError, httpx.HTTPError, HFValidationError, EntryNotFoundError) as error:
        raise RepositoryError(_explain(error, os.fspath(place), revision, purpose, local)) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what diffusers and transformers say inside to errors, and their bars to terminals; afterwards they speak as
    they did before."""
    from diffusers.utils import logging as diffusers_logging  # seconds to import, which not every use of the Hub needs
    from transformers.utils import logging as transformers_logging

    libraries = (diffusers_logging, transformers_logging)
    before = [(each, each.get_verbosity(), each.is_progress_bar_enabled()) for each in libraries]
    for library in libraries:
        library.set_verbosity_error()
        if not sys.stderr.isatty():
            library.disable_progress_bar()
    try:
        yield
    finally:
        for library, verbosity, bars in before:
            library.set_verbosity(verbosity)
            if bars:
                library.enable_progress_bar()


def _explain(error: BaseException, place: str, revision: str | None, purpose: str, local: bool) -> str:
    chain = _chain(error)

    def find(*kinds: type[BaseException]) -> BaseException | None:
        return next((link for link in chain if isinstance(link, kinds)), None)

    if local and purpose == "read" and os.path.exists(place):
        return f"The folder {place} cannot be loaded: {_first_sentence(error)}."
    if find(HFValidationError):
        return f"{place} is neither a folder nor the name of a repository, which is OWNER/NAME."
    if find(GatedRepoError):
        page = f"{constants.ENDPOINT}/{place}"
        return f"The repository {place} is gated: ask for access at {page}, then {LOG_IN}."
    answer = find(HfHubHTTPError)
    response = getattr(answer, "response", None)
    status = getattr(response, "status_code", None)
    if status == 401 and "Invalid credentials" in str(answer):
        return f"The Hub does not accept the token that was sent for {place}; {LOG_IN} to a valid one."
    if find(RepositoryNotFoundError) or status == 401:
        if purpose == "write":
            return f"Writing to {place} needs an account that may do so: {LOG_IN} to a token that can write."
        return (
            f"There is neither a folder nor a Hub repository {place} that you may see; check the name and, "
            f"if it is private, {LOG_IN}."
        )
    if find(RevisionNotFoundError):
        return f"The Hub repository {place} has no revision {revision or 'main'}; give a branch, a tag or a commit."
    if status == 403:
        return f"You may not {purpose} {place}; {LOG_IN} to an account and a token that may."
    if find(OfflineModeIsEnabled) or (constants.is_offline_mode() and find(LocalEntryNotFoundError)):
        return (
            f"{place} is not in the cache of this machine, or not all of it, and HF_HUB_OFFLINE forbids to look on the "
            "Hub; unset it."
        )
    lost = find(httpx.TransportError, ConnectionError)
    if lost is not None:
        return (
            f"The Hub at {constants.ENDPOINT} cannot be reached for {place} ({_first_sentence(lost)}); check the "
            "connection and try again: what has arrived is kept."
        )
    if isinstance(answer, EntryNotFoundError) and response is not None:
        return f"The Hub repository {place} holds no {response.url.path.rpartition('/')[2]}."
    if status is not None:
        return f"The Hub answered with status {status} about {place} ({_first_sentence(answer or error)}); try later."
    return (
        f"The Hub repository {place} cannot be {'read' if purpose == 'read' else 'written'}: {_first_sentence(error)}."
    )


def _chain(error: BaseException | None) -> list[BaseException]:
    """The error and those it came from, nearest first: libraries wrap the Hub's own in less telling ones."""
    found: list[BaseException] = []
    waiting = [error]
    while waiting:
        link = waiting.pop(0)
        if link is not None and link not in found:
            found.append(link)
            waiting += [link.__cause__, link.__context__]
    return found


def _first_sentence(error: BaseException) -> str:
    """Of a library's message, what comes before advice and addresses."""
    text = " ".join(str(error).split()) or type(error).__name__
    return re.split(r"\. | \(", text)[0].rstrip(".:")


def fetch_folder(
    place: str | os.PathLike,
    patterns: Sequence[str] = ("*",),
    *,
    revision: str | None = None,
    subfolder: str | None = None,
    token: str | bool | None = None,
    **options: Any,
) -> Path:
    """The folder that a path or the id of a Hub repository means; a repository's files come from the cache if they can.

    A file whose download breaks off is taken up again where it stopped; if the connection stays lost, the next call
    goes on with the files that are missing.

    Args:
        patterns: of file names in the folder, such as "*.json": the others are not downloaded.
        revision: branch, tag or commit; for a repository only.
        subfolder: part of the folder or repository that is meant.
        token: of the Hub; None is the one that is logged in.
        options: more for `huggingface_hub.snapshot_download`.

    Raises:
        RepositoryError: there is no such folder, or it cannot be had.
    """
    path = Path(os.path.expanduser(place))
    if not os.path.exists(path):
        start = f"{subfolder}/" if subfolder else ""
        with explained(place, revision):
            found = snapshot_download(
                os.fspath(place),
                allow_patterns=[f"{start}{pattern}" for pattern in patterns],
                revision=revision,
                token=token,
                **options,
            )
        path = Path(found)
    path = path / (subfolder or "")
    if not path.is_dir():
        raise RepositoryError(f"{place} has no folder {subfolder}." if subfolder else f"{place} is not a folder.")
    return path


def fetch_file(repo_id: str, names: Sequence[str]) -> Path:
    """The first of some files that a repository has: from the cache of this machine, or else from the Hub.

    Raises:
        RepositoryError: there is no such repository, it has none of them, or the Hub cannot be reached.
    """
    with explained(repo_id):
        for name in names:
            try:
                return Path(hf_hub_download(repo_id, name, local_files_only=True))
            except EntryNotFoundError:  # not in the cache
                pass
        get_session().head(constants.ENDPOINT, timeout=TIMEOUT)  # fails at once without a connection
        for name in names:
            try:
                return Path(hf_hub_download(repo_id, name))
            except EntryNotFoundError as error:
                missing = error
        raise missing


def fetch_small_files(repo_id: str, most: Mapping[str, int], folder: Path, *, token: str | bool | None = None) -> None:
    """Download files of a Hub repository into a folder, past the cache; never of a folder of that name.

    Args:
        most: bytes that a file may have, by its name.

    Raises:
        RepositoryError: there is no such repository or file, one is larger, or the Hub cannot be reached.
    """
    with explained(repo_id, local=False):
        for name, largest in most.items():
            facts = get_hf_file_metadata(hf_hub_url(repo_id, name), token=token)
            if facts.size is None or facts.size > largest:
                raise RepositoryError(
                    f"{name} of {repo_id} has {(facts.size or 0) / 1e6:.0f} MB; up to {largest / 1e6:.0f} MB can be "
                    "loaded here."
                )
            # of the same commit, whose size it is
            hf_hub_download(repo_id, name, revision=facts.commit_hash, local_dir=folder, token=token)


def create_repository(repo_id: str, *, private: bool | None = None, token: str | bool | None = None) -> str:
    """Make a model repository if there is none; its full id, with the owner.

    Args:
        private: whether only its owners see it; None is what its owner's settings say.

    Raises:
        RepositoryError: it must not be made, or it is there already and public though `private` was asked for.
    """
    with explained(repo_id, purpose="write"):
        repo_id = create_repo(repo_id, private=private, token=token, exist_ok=True).repo_id
        if private and not model_info(repo_id, token=token).private:
            raise RepositoryError(
                f"{repo_id} exists and is public; make it private in its settings, or choose another."
            )
    return repo_id


def push_folder(
    folder: str | os.PathLike,
    repo_id: str,
    *,
    token: str | bool | None = None,
    revision: str | None = None,
    commit_message: str | None = None,
    keep_card: bool = False,
) -> str:
    """Upload a folder to a repository, as one commit where the Hub's client can; the commit's address.

    Args:
        revision: a branch, made from main if there is none of that name.
        keep_card: leave the README.md that the repository has, if it has one: its owner may have edited it.

    Raises:
        RepositoryError: it cannot be uploaded.
    """
    with explained(repo_id, revision, "write"):
        if revision is not None:
            create_branch(repo_id, branch=revision, token=token, exist_ok=True)
        held = keep_card and file_exists(repo_id, "README.md", revision=revision, token=token)
        return upload_folder(
            repo_id=repo_id,
            folder_path=Path(folder),
            token=token,
            revision=revision,
            commit_message=commit_message,
            ignore_patterns=["README.md"] if held else None,
        ).commit_url


def push_saved(
    save: Callable[[Path, str], None],
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    commit_message: str | None = None,
) -> str:
    """Upload what `save` writes, its card included, to a repository that is made if there is none; the commit's
    address. A card that the repository has already stays as it is.

    Args:
        save: writes into a folder, for a repository of that full id.
        private: whether only its owners see it, if it is made; None is what the owner's settings say.
        token: of the Hub; None is the one that is logged in.
        revision: branch to upload to, made if it does not exist. Default: main.

    Raises:
        RepositoryError: the Hub cannot be reached or refuses; or `private` is asked of a public repository.
    """
    repo_id = create_repository(repo_id, private=private, token=token)
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder), repo_id)
        return push_folder(
            folder, repo_id, token=token, revision=revision, commit_message=commit_message, keep_card=True
        )
