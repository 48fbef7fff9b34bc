"""Files preprocessor_config.json of any content."""

import json

from tests.readers.case import Case
from tests.readers.pictures import written
from tests.readers.texts import deep


def fields(**values):
    return written(json.dumps(values).encode())


CASES = [
    Case("preprocessor_config.json", "sizes and statistics",
         fields(size={"height": 8, "width": 9}, image_mean=[0.1, 0.2, 0.3], image_std=[1, 1, 1]), [8, 9, 3]),
    Case("preprocessor_config.json", "nulls, as transformers writes them", fields(size={"height": 8, "width": 8,
         "shortest_edge": None}, crop_size=None, do_center_crop=None, image_mean=None, rescale_factor=None), [8, 8, 3]),
    Case("preprocessor_config.json", "byte order mark", written(b'\xef\xbb\xbf{"size": 8}'), [8, 8, 3]),
    Case("preprocessor_config.json", "one mean for all channels", fields(size=8, image_mean=0.5), [8, 8, 3]),
    Case("preprocessor_config.json", "shortest_edge and longest_edge",
         fields(size={"shortest_edge": 8, "longest_edge": 9}), [6, 9, 3]),
    Case("preprocessor_config.json", "crop_pct is null, from 384 pixels on",
         fields(size={"shortest_edge": 384}, crop_pct=None), [384, 384, 3]),
    Case("preprocessor_config.json", "crop_pct is null", fields(size={"shortest_edge": 8}, crop_pct=None), [8, 8, 3]),
    Case("preprocessor_config.json", "no crop_pct, of ConvNeXt",
         fields(size={"shortest_edge": 8}, image_processor_type="ConvNextImageProcessor"), [8, 8, 3]),
    *(
        Case("preprocessor_config.json", variant, fields(**{"size": 8, **values}), said, "refused")
        for variant, values, said in (
            ("a size of 0", {"size": 0}, "size=.0, 0."),
            ("a size of 10¹²", {"size": 10**12}, "size=.1000000000000, 1000000000000.; expected"),
            ("a size that is text", {"size": "224"}, "a size is '224'; expected a number or an object"),
            ("a size without a width", {"size": {"height": 8}}, "cannot be read .KeyError"),
            ("a negative crop", {"crop_size": -3, "do_center_crop": True}, "crop=.-3, -3."),
            ("a mean of NaN", {"image_mean": [0, 0, float("nan")]}, "mean=.0.0, 0.0, nan."),
            ("a standard deviation of 0", {"image_std": [1, 0, 1]}, "expected three finite numbers above 0"),
            ("a mean that is text", {"image_mean": "half"}, "image_mean is 'half'; expected a number or a list"),
            ("a mean with text", {"image_mean": ["a", 0, 0]}, "cannot be read .TypeError"),
            ("a rescale factor of 0", {"rescale_factor": 0}, "rescale_factor is 0; expected a number above 0"),
            ("a rescale factor of NaN", {"rescale_factor": float("nan")}, "rescale_factor is nan"),
            ("do_normalize that is text", {"do_normalize": "false"}, "do_normalize is 'false'; expected true or false"),
            ("do_rescale=false", {"do_rescale": False}, "do_rescale=false is not supported"),
            ("longest_edge alone", {"size": {"longest_edge": 9}}, "a size has longest_edge without shortest_edge"),
            ("a longest_edge of 0", {"size": {"shortest_edge": 8, "longest_edge": 0}}, "longest=0, size=8; expected"),
            ("max_height", {"size": {"max_height": 8, "max_width": 9}}, "a size has max_height, max_width"),
            ("an offset of 5", {"offset": 5}, "offset is 5; expected true or false"),
            ("one mean in a list", {"image_mean": [0.5]}, "image_mean has 1 value, but the model reads images of 3"),
            ("a class that is no text", {"image_processor_type": 3}, "image_processor_type is 3; expected the name"),
            ("a class that is no name", {"image_processor_type": "os.path"}, "'os.path' is no name of a class"),
            ("code of its author", {"image_processor_type": "Mine", "auto_map": {"AutoImageProcessor": "mine.Mine"}},
             "auto_map of image processor 'Mine' names code or files of its author"),
            ("an unknown filter", {"resample": 99}, "resample=99; expected one of Pillow's filters"),
            ("a crop_pct of 0", {"size": {"shortest_edge": 8}, "crop_pct": 0}, "cannot be read .ZeroDivisionError"),
        )
    ),
    Case("preprocessor_config.json", "nested 10,000 deep", written(deep(10_000)), "is not valid JSON", "refused"),
    Case("preprocessor_config.json", "a list", written(b"[1]"), "contains a list; expected a JSON object", "refused"),
    Case("preprocessor_config.json", "an empty file", written(b""), "is empty: fetch it again", "refused"),
]  # fmt: skip
