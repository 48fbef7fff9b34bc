"""Neural network layers: Transformer, convolution, normalization, dropout, pooling, LSTM and connectors."""

from mmkd_jax.convolution import convolve as convolve
from mmkd_jax.nn import connectors as connectors
from mmkd_jax.nn import transformer as transformer
from mmkd_jax.nn.activations import activation as activation
from mmkd_jax.nn.batch_norm import BatchNorm as BatchNorm
from mmkd_jax.nn.conv import Conv as Conv
from mmkd_jax.nn.conv import Depthwise as Depthwise
from mmkd_jax.nn.conv_norm import ConvNorm as ConvNorm
from mmkd_jax.nn.dropout import Dropout as Dropout
from mmkd_jax.nn.pooling import masked_mean as masked_mean
from mmkd_jax.nn.recurrent import lstm as lstm
from mmkd_jax.nn.response_norm import ResponseNorm as ResponseNorm
