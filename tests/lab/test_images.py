"""Docker archives as containerd imports them, and layers that are made again only when something has changed."""

import hashlib
import json
import tarfile
from pathlib import Path

from lab.images import IMAGES, Image, write_archive
from lab.layers import EXTRAS, Layer, made, requirements
from lab.settings import read_settings


def test_archive_names_its_layers_by_content(tmp_path: Path) -> None:
    layer = tmp_path / "one.layer"
    with tarfile.open(layer, "w"):
        pass
    target = tmp_path / "image.tar"
    write_archive(target, Image("tiny", ("one",), ("/run",), "1337:1337", ("A=1",)), [layer])
    with tarfile.open(target) as archive:
        content = {member.name: archive.extractfile(member).read() for member in archive.getmembers()}
    (manifest,) = json.loads(content["manifest.json"])
    assert manifest["RepoTags"] == ["localhost/lab/tiny:dev"]
    config = content[manifest["Config"]]
    assert manifest["Config"] == hashlib.sha256(config).hexdigest() + ".json"
    said = json.loads(config)
    assert said["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(content["one/layer.tar"]).hexdigest()]
    assert said["config"]["User"] == "1337:1337"
    assert "A=1" in said["config"]["Env"]
    assert not target.with_suffix(".part").exists()


def test_an_image_for_elsewhere_has_another_name() -> None:
    assert Image("eastgate", (), ()).reference == "localhost/lab/eastgate:dev"
    assert Image("eastgate", (), (), hub="", tag="0.1.0").reference == "eastgate:0.1.0"


def test_layer_is_made_again_only_with_another_key(tmp_path: Path) -> None:
    settings = read_settings({"EASTGATE_LAB_CACHE": str(tmp_path)})
    filled: list[str] = []

    def layer(key: str) -> Layer:
        def fill(root: Path) -> None:
            filled.append(key)
            (root / "file").write_text(key)

        return Layer("one", key, fill)

    tar = made(settings, layer("a"))
    before = tar.read_bytes()
    assert made(settings, layer("a")).read_bytes() == before
    made(settings, layer("b"))
    assert filled == ["a", "b"]
    # The same tree is the same layer, whatever the time.
    assert made(settings, layer("a")).read_bytes() == before


def test_images_that_must_not_run_as_root_have_a_numeric_user() -> None:
    users = {image.name: image.user for image in IMAGES}
    assert users["pilot"] == users["proxyv2"] == users["eastgate"] == "1337:1337"


def test_requirements_follow_extras_and_leave_out_ourselves() -> None:
    names = {one.name.lower() for one in requirements(EXTRAS)}
    assert {"click", "grpcio", "uvloop", "betterproto2", "cryptography"} <= names
    assert not names & {"eastgate", "pytest", "ruff"}
