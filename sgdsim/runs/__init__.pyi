from ._claims import (
    QUANTITIES as QUANTITIES,
    evaluate_claims as evaluate_claims,
    print_claims as print_claims,
)
from ._imported import import_runs as import_runs
from ._output import RunPaths as RunPaths, check_output as check_output, find_run as find_run
from ._run import resume as resume, run as run
from ._simulate import simulate as simulate
