"""Many trajectories: the compiled, sharded, resumable loop and what it watches."""

from sgdsim.ensemble._batch import Batch as Batch, Leg as Leg, signature as signature
from sgdsim.ensemble._curvature_observer import CurvatureObserver as CurvatureObserver
from sgdsim.ensemble._information import (
    InformationObserver as InformationObserver,
    gradient_stream as gradient_stream,
)
from sgdsim.ensemble._injected import (
    InjectedNoise as InjectedNoise,
    injected_noise as injected_noise,
)
from sgdsim.ensemble._layout import (
    Layout as Layout,
    choose_layout as choose_layout,
    map_ensemble as map_ensemble,
    on_host as on_host,
    use_host_devices as use_host_devices,
)
from sgdsim.ensemble._loop import (
    CarryingObserver as CarryingObserver,
    Chunk as Chunk,
    Ensemble as Ensemble,
    EnsembleState as EnsembleState,
    Observer as Observer,
    Schedule as Schedule,
    advance as advance,
    root_key as root_key,
)
from sgdsim.ensemble._memory import (
    Footprint as Footprint,
    footprint as footprint,
    memory_budget as memory_budget,
)
from sgdsim.ensemble._observe import (
    ClassificationObserver as ClassificationObserver,
    SharpnessObserver as SharpnessObserver,
    no_observables as no_observables,
)
from sgdsim.ensemble._sketch import count_sketch as count_sketch
from sgdsim.ensemble._track import (
    NEVER as NEVER,
    AbstractRegion as AbstractRegion,
    Track as Track,
    start_track as start_track,
    update_track as update_track,
)
