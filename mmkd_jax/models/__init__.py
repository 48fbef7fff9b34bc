"""Linen modules that return every intermediate anyone may distil."""

from mmkd_jax.models.ast import Ast as Ast
from mmkd_jax.models.audio import AudioCNN as AudioCNN
from mmkd_jax.models.audio import AudioTDNN as AudioTDNN
from mmkd_jax.models.bert import Bert as Bert
from mmkd_jax.models.branches import branches as branches
from mmkd_jax.models.clip import Clip as Clip
from mmkd_jax.models.clip import ClipText as ClipText
from mmkd_jax.models.convnext import ConvNext as ConvNext
from mmkd_jax.models.efficientnet import EfficientNetLite as EfficientNetLite
from mmkd_jax.models.encoders import Encoders as Encoders
from mmkd_jax.models.fusion import Concat as Concat
from mmkd_jax.models.fusion import Gated as Gated
from mmkd_jax.models.heads import Classifier as Classifier
from mmkd_jax.models.image import ImageCNN as ImageCNN
from mmkd_jax.models.image import ImageMLP as ImageMLP
from mmkd_jax.models.image import ImageTransformer as ImageTransformer
from mmkd_jax.models.mlp import mlp as mlp
from mmkd_jax.models.multimodal import Multimodal as Multimodal
from mmkd_jax.models.resnet import ResNet as ResNet
from mmkd_jax.models.simkd import simkd as simkd
from mmkd_jax.models.text import TextLSTM as TextLSTM
from mmkd_jax.models.text import TextTransformer as TextTransformer
from mmkd_jax.models.vit import Vit as Vit
from mmkd_jax.models.wav2vec2 import Wav2Vec2 as Wav2Vec2
from mmkd_jax.models.whisper import Whisper as Whisper
