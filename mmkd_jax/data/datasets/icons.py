"""Icons: 5,129 images with names and aliases, each with any number of 46 tags, such as Weather and Lock."""

import functools
import io
import json
from collections import Counter

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image, ImageDraw, ImageFont

from mmkd_jax.data import sources
from mmkd_jax.data.preprocess import Preprocessing, ReadImage, Resize
from mmkd_jax.data.splits import joined, split

TAGS = tuple(
    """
    Account / User, Agriculture, Alert / Error, Alpha / Numeric, Animal, Arrow, Audio, Automotive, Banking, Battery,
    Cellphone / Phone, Cloud, Currency, Database, Date / Time, Developer / Languages, Device / Tech, Edit / Modify,
    Files / Folders, Food / Drink, Form, Gaming / RPG, Geographic Information System, Hardware / Tools, Holiday,
    Home Automation, Lock, Math, Medical / Hospital, Music, Nature, Navigation, People / Family, Photography, Places,
    Printer, Science, Settings, Shape, Shopping, Sport, Text / Content / Format, Transportation + Other,
    Transportation + Road, Video / Movie, Weather
    """.strip()
    .replace("\n   ", "")
    .split(", ")
)
"""Tags of at least 50 icons."""
SIZE = 32
"""Height and width of the images, px."""
LARGEST = 30
"""Number of icons beyond which a family is for training: in another split, it would be most icons of its tag there."""
SHARES = {"test": 0.3, "validation": 0.1}
"""Share of the rows of the other families; the remaining rows are for training."""
LENGTHS = {"text": "S400"}

CONTENT = {
    "train": "d592c056887cc8c8c44e53aadcb07a512e564e61e3586a6cad9e149e343fd56d",
    "validation": "2713658e112d5a55d97606bcbc8fc928f694d7465f303f679a404f8b0c656182",
    "test": "93aaa931191dd96c9e8fc67bed2a3c50f55405625d2ebdd232a3b20e597e7d1c",
}
"""`dataset.content_hash` of the decoded rows; the images are the same with FreeType 2.13.2 to 2.14.3."""

ABOUT = {
    "classes": list(TAGS),
    "image": "32 x 32 gray values, black on white: the glyph of a font",
    "text": "the English name, then its aliases, separated by commas",
    "label": "for each tag, whether the icon has it; icons without tags are left out, some have only rare tags",
    "family": "icons derived from one icon, such as with a plus or a lock, and those that look the same",
    "splits": "by family: 68 % train, 8 % validation, 24 % test; families of more than 30 icons, such as batteries and "
    "calendars, are in train",
    "sources": "@mdi/svg 7.4.47 and @mdi/font 7.4.47 (npm): Material Design Icons, Pictogrammers and contributors, "
    "Apache-2.0; deprecated icons are left out, most of which are brands",
}
PREPROCESS = (Preprocessing("image", (ReadImage(1, on_white=True), Resize((SIZE, SIZE), "box"))),)
"""Dark icons, on white where transparent. Names are texts, whose steps `data.tokenize` declares."""

_SEED = 20_261_201


class Icons(tfds.core.GeneratorBasedBuilder):
    """Pictures, names and tags of icons."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        f = tfds.features
        features = f.FeaturesDict(
            {
                "image": f.Tensor(shape=(SIZE, SIZE, 1), dtype=np.uint8, encoding="zlib"),
                "text": f.Text(),
                "label": f.Tensor(shape=(len(TAGS),), dtype=np.bool_, encoding="zlib"),
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
    named = sources.npm("@mdi/svg", "7.4.47", "de92e5dc9ce46c392ab5c53aa7190b19f82b40cb48872a083f788c7e13e91fef")
    drawn = sources.npm("@mdi/font", "7.4.47", "66131558352dc8df724feac30f3b7bf7ee7311a79e4f8436f3637c0993edb773")
    icons = [x for x in json.loads(named["package/meta.json"]) if x["tags"] and not x["deprecated"]]
    file = io.BytesIO(drawn["package/fonts/materialdesignicons-webfont.ttf"])
    font = ImageFont.truetype(file, SIZE, layout_engine=ImageFont.Layout.BASIC)
    images = [glyph(chr(int(x["codepoint"], 16)), font) for x in icons]
    families = joined([[x["baseIconId"], image.tobytes()] for x, image in zip(icons, images, strict=True)])
    sizes = Counter(families)
    small = [family for family in families if sizes[family] <= LARGEST]
    where = dict(zip(small, split(np.random.default_rng(_SEED), small, SHARES), strict=True))
    rows: dict[str, list[dict]] = {name: [] for name in ("train", "validation", "test")}
    for i, (icon, image, family) in enumerate(zip(icons, images, families, strict=True)):
        rows[where.get(family, "train")].append(
            {
                "image": image,
                "text": ", ".join([icon["name"], *icon["aliases"]]).replace("-", " "),
                "label": np.isin(TAGS, icon["tags"]),
                "family": family,
                "example_id": i,
            }
        )
    return rows


def glyph(letter: str, font: ImageFont.FreeTypeFont) -> np.ndarray:
    """Draw a letter of a font, black on white: uint8 [SIZE, SIZE, 1]."""
    picture = Image.new("L", (SIZE, SIZE))
    ImageDraw.Draw(picture).text((0, 0), letter, 255, font)
    return 255 - np.asarray(picture)[..., None]
