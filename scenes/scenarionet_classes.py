"""How the categories of recorded data sets map to the classes of Occ3D-nuScenes."""

from __future__ import annotations

from scenes.grid import CLASS_ID

NUSCENES_CATEGORIES = {
    "animal": "others",
    "human.pedestrian.adult": "pedestrian",
    "human.pedestrian.child": "pedestrian",
    "human.pedestrian.construction_worker": "pedestrian",
    "human.pedestrian.police_officer": "pedestrian",
    "human.pedestrian.personal_mobility": "others",
    "human.pedestrian.stroller": "others",
    "human.pedestrian.wheelchair": "others",
    "movable_object.barrier": "barrier",
    "movable_object.debris": "others",
    "movable_object.pushable_pullable": "others",
    "movable_object.trafficcone": "traffic_cone",
    "static_object.bicycle_rack": "others",
    "vehicle.bicycle": "bicycle",
    "vehicle.bus.bendy": "bus",
    "vehicle.bus.rigid": "bus",
    "vehicle.car": "car",
    "vehicle.construction": "construction_vehicle",
    "vehicle.emergency.ambulance": "others",
    "vehicle.emergency.police": "others",
    "vehicle.motorcycle": "motorcycle",
    "vehicle.trailer": "trailer",
    "vehicle.truck": "truck",
}  # the nuScenes category of each track is in its metadata["type"]; the mapping is that of nuScenes-lidarseg's 16 classes

TRACK_TYPES = {
    "VEHICLE": "car",
    "PEDESTRIAN": "pedestrian",
    "CYCLIST": "bicycle",
    "TRAFFIC_CONE": "traffic_cone",
    "TRAFFIC_BARRIER": "barrier",
    "TRAFFIC_OBJECT": "others",
    "OTHER": "others",
    "UNSET": "others",
}  # the types of ScenarioNet, which are all that Waymo, nuPlan and Argoverse 2 keep

DEFAULT_SIZES = {
    "others": (1.0, 1.0, 1.0),
    "barrier": (0.5, 2.5, 1.0),
    "bicycle": (1.8, 0.6, 1.6),
    "bus": (11.0, 2.9, 3.4),
    "car": (4.6, 1.9, 1.7),
    "construction_vehicle": (6.4, 2.8, 3.2),
    "motorcycle": (2.1, 0.8, 1.5),
    "pedestrian": (0.7, 0.7, 1.8),
    "traffic_cone": (0.4, 0.4, 1.0),
    "trailer": (12.0, 2.9, 3.8),
    "truck": (7.0, 2.5, 2.9),
}  # length, width, height in metres, where a recording has none

SIZE_BOUNDS = ((0.2, 25.0), (0.2, 6.0), (0.2, 6.0))  # of length, width and height: what is outside is a slip of the recording

LIGHT_STATES = {"STOP": 1, "RED": 1, "CAUTION": 2, "YELLOW": 2, "GO": 3, "GREEN": 3}  # last word of the recorded state


def class_of(track_type: str | None, category: str | None, length: float, height: float) -> int:
    """Class id of a track from its ScenarioNet type, its data set's own category and its size in metres.

    A category of nuScenes decides alone. Elsewhere the type does; data sets that call everything on wheels a vehicle are told
    apart by size: a vehicle of 11 m and 2.6 m height or more is a bus, one of 6.5 m, or higher than 2.6 m, a truck.
    An unknown type is of class "others".
    """
    if category in NUSCENES_CATEGORIES:
        return CLASS_ID[NUSCENES_CATEGORIES[category]]
    name = TRACK_TYPES.get(track_type or "", "others")
    if name == "car" and length >= 11.0 and height >= 2.6:
        name = "bus"
    elif name == "car" and (length >= 6.5 or height > 2.6):
        name = "truck"
    return CLASS_ID[name]


def light_state(recorded: str | None) -> int:
    """State of a traffic light, 0 unknown, 1 red, 2 yellow, 3 green, from its name in the recording."""
    return LIGHT_STATES.get((recorded or "").rsplit("_", 1)[-1], 0)
