"""The setting's models in PyTorch, as its users write them, with the weights of ours."""

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.peers.setting import CLASSES, PIXELS, STUDENT, TEACHER, TOKENS, VOCABULARY


class Block(nn.Module):
    """Pre-norm; query, key and value in one product."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.before, self.after = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x, mask):
        b, n, d = x.shape
        q, k, v = self.qkv(self.before(x)).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.out(mixed.transpose(1, 2).reshape(b, n, d))
        return x + self.down(F.gelu(self.up(self.after(x))))


class Text(nn.Module):
    def __init__(self, width, heads, layers):
        super().__init__()
        self.embed, self.positions = nn.Embedding(VOCABULARY, width), nn.Parameter(torch.zeros(TOKENS, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, ids, mask):
        x = self.embed(ids) + self.positions
        for block in self.blocks:
            x = block(x, mask[:, None, None])
        x = self.norm(x) * mask[..., None]
        return x.sum(1) / mask.sum(1, keepdim=True)


class ViT(nn.Module):
    def __init__(self, patch, width, heads, layers):
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.positions = nn.Parameter(torch.zeros((PIXELS // patch) ** 2, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, image):
        x = self.patches(image).flatten(2).transpose(1, 2) + self.positions
        for block in self.blocks:
            x = block(x, None)
        return self.norm(x).mean(1)


class CNN(nn.Module):
    def __init__(self, *widths):
        super().__init__()
        # XLA pads a halving convolution of an even side at the end only
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, 3, 2, bias=False) for before, after in zip((3, *widths), widths, strict=False)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(w, momentum=0.01) for w in widths)

    def forward(self, x):
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(conv(F.pad(x, (0, 1, 0, 1)))))
        return x.mean((2, 3))


class TwoTowers(nn.Module):
    """Logits of text and picture; `embed` and `connector` are there to be hooked."""

    def __init__(self, text, image, fused, width, connected=None):
        super().__init__()
        self.text, self.image = text, image
        self.embed = nn.Sequential(nn.Linear(fused, width), nn.ReLU())
        self.head = nn.Linear(width, CLASSES)
        self.connector = nn.Linear(width, connected) if connected else None

    def forward(self, batch):
        ids, mask, image = batch["ids"], batch["mask"], batch["image"]
        image = image.to(torch.float32) / 255
        x = self.embed(torch.cat([self.text(ids, mask), self.image(image)], -1))
        if self.connector is None:
            return self.head(x), x
        return self.head(x), self.connector(x)


def models():
    """Teacher and student."""
    (width, heads, layers), vit = TEACHER["text"], TEACHER["image"]
    teacher = TwoTowers(Text(width, heads, layers), ViT(*vit), width + vit[1], TEACHER["width"])
    (width, heads, layers), convs = STUDENT["text"], STUDENT["image"]
    student = TwoTowers(
        Text(width, heads, layers), CNN(*convs), width + convs[-1], STUDENT["width"], connected=TEACHER["width"]
    )
    return teacher.eval(), student.train()


@torch.no_grad()
def load(model, params, connector=None):
    """Our weights {path: array} into one of the models."""
    taken = set()

    def put(place, path, arrange=lambda x: x):
        taken.add(path)
        value = torch.from_numpy(arrange(params[path]).copy())
        assert place.shape == value.shape, (path, place.shape, value.shape)
        place.copy_(value)

    def dense(linear, path):
        put(linear.weight, f"{path}/kernel", lambda x: x.T)
        put(linear.bias, f"{path}/bias")

    def norm(layer, path):
        put(layer.weight, f"{path}/scale")
        put(layer.bias, f"{path}/bias")

    def blocks(tower, path, first):
        for i, block in enumerate(tower.blocks):
            d = block.out.weight.shape[0]
            for j, (weight, bias) in enumerate(zip(block.qkv.weight.split(d), block.qkv.bias.split(d), strict=True)):
                put(weight, f"{path}/DenseGeneral_{4 * i + j}/kernel", lambda x: x.reshape(x.shape[0], -1).T)
                put(bias, f"{path}/DenseGeneral_{4 * i + j}/bias", lambda x: x.reshape(-1))
            put(block.out.weight, f"{path}/DenseGeneral_{4 * i + 3}/kernel", lambda x: x.reshape(-1, x.shape[-1]).T)
            put(block.out.bias, f"{path}/DenseGeneral_{4 * i + 3}/bias")
            norm(block.before, f"{path}/LayerNorm_{2 * i}")
            norm(block.after, f"{path}/LayerNorm_{2 * i + 1}")
            dense(block.up, f"{path}/Dense_{first + 2 * i}")
            dense(block.down, f"{path}/Dense_{first + 2 * i + 1}")
        norm(tower.norm, f"{path}/LayerNorm_{2 * len(tower.blocks)}")
        put(tower.positions, f"{path}/positions")

    put(model.text.embed.weight, "encoders_text/Embed_0/embedding")
    blocks(model.text, "encoders_text", 0)
    if isinstance(model.image, ViT):
        p = model.image.patches.kernel_size[0]
        put(
            model.image.patches.weight,
            "encoders_image/Dense_0/kernel",
            lambda x: x.reshape(p, p, 3, -1).transpose(3, 2, 0, 1),
        )
        put(model.image.patches.bias, "encoders_image/Dense_0/bias")
        blocks(model.image, "encoders_image", 1)
    else:
        for i, (conv, batch_norm) in enumerate(zip(model.image.convs, model.image.norms, strict=True)):
            put(conv.weight, f"encoders_image/Conv_{i}/kernel", lambda x: x.transpose(3, 2, 0, 1))
            norm(batch_norm, f"encoders_image/BatchNorm_{i}")
    dense(model.embed[0], "Dense_0")
    dense(model.head, "Classifier_0/Dense_0")
    assert taken == set(params), sorted(set(params) - taken)
    if connector is not None:
        params = {f"connector/{k}": v for k, v in connector.items()}
        dense(model.connector, "connector")
