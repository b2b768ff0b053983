"""Programs that the lab runs: found in the cache or on PATH, started quietly, explained when they fail."""

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .errors import LabError

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TELL_EVERY_S = 10.0


def say(text: str) -> None:
    print(text, flush=True)


def program(name: str, *folders: Path) -> str:
    """Path of a program. Raises LabError when it is nowhere."""
    for folder in folders:
        if (folder / name).exists():
            return str(folder / name)
    found = shutil.which(name) or shutil.which(name, path=SYSTEM_PATH)
    if found is None:
        raise LabError(f"{name} is not installed: run `make lab-build` as root, or install it")
    return found


def run(*command: Any, check: bool = True, timeout_s: float = 120.0, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run to its end; the result has stdout and stderr as text. Raises LabError with what it said last."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, check=False, text=True, capture_output=True, timeout=timeout_s, **more)
    except subprocess.TimeoutExpired:
        raise LabError(f"{' '.join(words)[:300]}: not done after {timeout_s:g} s") from None
    if check and done.returncode != 0:
        said = " | ".join((done.stderr or done.stdout).strip().splitlines()[-4:])
        raise LabError(f"{' '.join(words)[:300]}: exit code {done.returncode}: {said}")
    return done


def wait_for(what: str, check: Callable[[], object], *, seconds: float = 120.0, every: float = 0.2) -> None:
    """Ask until the check answers something true; a LabError counts as not yet. Raises LabError with the last one."""
    begin = time.monotonic()
    told, reason = begin, ""
    while (now := time.monotonic()) - begin < seconds:
        try:
            if check():
                say(f"   {what}: {time.monotonic() - begin:.1f} s")
                return
        except (LabError, OSError) as error:
            reason = f": {error}"
        if now - told > TELL_EVERY_S:
            told = now
            say(f"   waiting for {what}{reason[:160]}")
        time.sleep(every)
    raise LabError(f"{what}: not within {seconds:g} s{reason}")
