"""Many trajectories: the compiled, sharded, resumable loop and what it watches."""

from sgdsim.ensemble._layout import (
    Layout as Layout,
    choose_layout as choose_layout,
    map_ensemble as map_ensemble,
    use_host_devices as use_host_devices,
)
from sgdsim.ensemble._loop import (
    Chunk as Chunk,
    Ensemble as Ensemble,
    EnsembleState as EnsembleState,
    Observer as Observer,
    Schedule as Schedule,
    advance as advance,
)
from sgdsim.ensemble._observe import (
    ClassificationObserver as ClassificationObserver,
    SharpnessObserver as SharpnessObserver,
    no_observables as no_observables,
)
from sgdsim.ensemble._track import (
    NEVER as NEVER,
    AbstractRegion as AbstractRegion,
    Track as Track,
    start_track as start_track,
    update_track as update_track,
)
