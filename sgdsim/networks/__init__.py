"""Networks made of layers: true operator norms, weights from files, layer lists."""

from sgdsim.networks._architecture import Architecture as Architecture, mlp as mlp
from sgdsim.networks._ascent import (
    Ascent as Ascent,
    ascend as ascend,
    ascent_tolerance as ascent_tolerance,
    worst_sharpness as worst_sharpness,
)
from sgdsim.networks._blocks import BatchNorm as BatchNorm, Residual as Residual
from sgdsim.networks._compression import log_compression as log_compression
from sgdsim.networks._convolution import (
    ConvolutionNorms as ConvolutionNorms,
    Interval as Interval,
    convolution_norm as convolution_norm,
    convolution_norms as convolution_norms,
)
from sgdsim.networks._examine import FixedInAdvance as FixedInAdvance, examine as examine
from sgdsim.networks._geometry import (
    ConvolutionGeometry as ConvolutionGeometry,
    convolution_geometry as convolution_geometry,
)
from sgdsim.networks._gibbs import gibbs_errors as gibbs_errors
from sgdsim.networks._gradients import fisher_rao as fisher_rao, gradient_noise as gradient_noise
from sgdsim.networks._ingredient_groups import Effort as Effort
from sgdsim.networks._ingredients import (
    MEASURABLE as MEASURABLE,
    measure_network as measure_network,
)
from sgdsim.networks._layer_list import (
    build_architecture as build_architecture,
    layers_of as layers_of,
    read_layers as read_layers,
)
from sgdsim.networks._layer_tables import LayerList as LayerList
from sgdsim.networks._layers import (
    ACTIVATIONS as ACTIVATIONS,
    Activation as Activation,
    Convolution as Convolution,
    Flatten as Flatten,
    Layer as Layer,
    Linear as Linear,
    Scale as Scale,
)
from sgdsim.networks._operator_norms import (
    kernel_distances as kernel_distances,
    kernel_matrices as kernel_matrices,
    kernel_norms as kernel_norms,
    operator_distances as operator_distances,
    operator_norms as operator_norms,
    with_bias_coordinate as with_bias_coordinate,
)
from sgdsim.networks._outputs import (
    LabelledRows as LabelledRows,
    call_network as call_network,
    margin_percentile as margin_percentile,
    network_margins as network_margins,
)
from sgdsim.networks._path_norm import path_norm as path_norm
from sgdsim.networks._perturbation import (
    Tolerance as Tolerance,
    average_sharpness as average_sharpness,
    noise_tolerance as noise_tolerance,
    published_noise_tolerance as published_noise_tolerance,
)
from sgdsim.networks._pools import AveragePool as AveragePool, MaxPool as MaxPool
from sgdsim.networks._weights_file import read_weights as read_weights
