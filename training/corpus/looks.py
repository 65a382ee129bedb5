"""What a rendered person and scene look like: the numbers that `skin`, `hair` and `render` paint from.

The ranges are wide on purpose (domain randomisation): a renderer trained on them should carry over whatever a portrait
shows instead of learning one kind of skin. Colours are RGB in [0, 1].
"""

from dataclasses import dataclass, replace

import numpy as np

LIGHT_SKIN = np.array([0.93, 0.76, 0.66])
MIDDLE_SKIN = np.array([0.72, 0.52, 0.38])
LIGHT_LIPS, DARK_LIPS = np.array([0.82, 0.48, 0.47]), np.array([0.36, 0.20, 0.20])
DARK_SKIN = np.array([0.33, 0.21, 0.15])

HAIR_COLOURS = {
    "black": (0.07, 0.06, 0.06),
    "dark brown": (0.17, 0.11, 0.07),
    "brown": (0.30, 0.19, 0.11),
    "blond": (0.66, 0.52, 0.32),
    "red": (0.50, 0.23, 0.11),
    "grey": (0.52, 0.51, 0.50),
    "white": (0.70, 0.69, 0.66),
    "dyed": (0.35, 0.25, 0.45),
}
IRIS_COLOURS = ((0.20, 0.12, 0.08), (0.34, 0.21, 0.12), (0.42, 0.34, 0.19), (0.40, 0.52, 0.63), (0.40, 0.50, 0.36))
HAIR_STYLES = ("bald", "buzz", "short", "swept", "curly", "bob", "long")
BEARD_SHAPES = ("full", "goatee", "moustache", "circle", "chin strap")
COLLARS = ("crew", "v", "wide", "high", "bare")
BACKGROUNDS = ("plain", "studio", "noise", "leaves", "shapes", "room", "lights", "outdoors")
FILTERS = ("none", "grey", "sepia", "faded", "painted")


@dataclass(frozen=True)
class Hair:
    """Scalp hair. Lengths are in picture units (the frame is 2 wide)."""

    style: str  # one of HAIR_STYLES
    colour: tuple[float, float, float]
    volume: float  # thickness over the scalp, 0.01 (buzz) to 0.2
    hairline: float  # raises (+) or lowers (-) the hairline on the forehead
    recession: float  # how far the temples recede (+) or the hairline is round (-), -0.2 to 0.18
    fringe: float  # how far a fringe falls over the forehead, 0 (none) to 0.22
    length: float  # how far it falls below the ears, 0 (short) to 1.2 (past the shoulders)
    parting: float  # where the hair divides, -0.5 (picture left) to 0.5
    curl: float  # 0 straight to 1 curls
    sweep: float  # how far the front falls to the picture's left (-) or right (+), picture units
    streaks: float  # contrast of the strands


@dataclass(frozen=True)
class Beard:
    """Hair on the face that is longer than stubble."""

    shape: str  # one of BEARD_SHAPES
    length: float  # at the chin, picture units: 0.02 (trimmed) to 0.2
    density: float  # 0.6 to 1
    colour: tuple[float, float, float]


@dataclass(frozen=True)
class Glasses:
    """Sizes in picture units."""

    width: float  # half of a rim's
    height: float
    squareness: float  # exponent of the rim's superellipse, 2 (round) to 5
    thickness: float
    colour: tuple[float, float, float]


@dataclass(frozen=True)
class Hat:
    """A cap of cloth."""

    edge: float  # how far above the eyes it ends in front, picture units
    tilt: float  # how much higher it is on the picture's left
    thickness: float
    colour: tuple[float, float, float]


@dataclass(frozen=True)
class Look:
    """Everything that belongs to the person and is not geometry. `seed` feeds the noise textures."""

    tone: tuple[float, float, float]
    mottling: float  # contrast of the skin's noise
    blush: float
    freckles: float
    lip_colour: tuple[float, float, float]
    lip_strength: float
    brow_colour: tuple[float, float, float]
    brow_thickness: float  # half height in picture units
    brow_density: float
    iris: tuple[float, float, float]
    iris_size: float  # half angle in degrees
    eye_shadow: tuple[float, float, float]
    eye_shadow_strength: float
    liner: float
    lashes: float  # 0 hardly any to 1 thick
    stubble: float  # 0 to 1
    wrinkles: float  # 0 to 1, grows with age
    gloss: float  # strength of the skin's highlight
    teeth: tuple[float, float, float]
    gap: float  # darkness between the teeth, 0 to 1
    hair: Hair
    glasses: Glasses | None
    hat: Hat | None
    seed: int
    beard: Beard | None = None


@dataclass(frozen=True)
class Scene:
    """What may change from clip to clip for one person: place, light, clothes and camera."""

    background: str  # one of BACKGROUNDS
    background_colours: tuple[tuple[float, float, float], ...]
    background_blur: float  # pixels of the 256 frame
    collar: str  # one of COLLARS
    clothes_colours: tuple[tuple[float, float, float], ...]
    clothes_pattern: str  # "plain", "stripes", "checks" or "blotches"
    light: tuple[float, float, float]  # unit vector towards the key light, picture coordinates
    light_colour: tuple[float, float, float]
    ambient: tuple[tuple[float, float, float], ...]  # (9, 3) all other light, see `irradiance`
    mouth_light: float  # how deep light gets into an open mouth, picture units
    distance: float  # of the camera from the face, picture units: 3 is an arm's length, 20 a long lens
    exposure: float
    contrast: float
    saturation: float
    vignette: float  # how much darker the corners are
    filter: str  # one of FILTERS
    blur: float  # pixels of the 256 frame
    noise: float  # standard deviation, of 1
    jpeg: int  # quality, 0 for none
    seed: int
    aperture: float = 0.0  # how fast things blur off the plane of the eyes: pixels of the 256 frame a picture unit
    video: int = 0  # H.264's rate factor that the clip has gone through, 0 for none


def _three(values: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z


def _colour(values: np.ndarray) -> tuple[float, float, float]:
    return _three(np.clip(values, 0.0, 1.0))


def sample_hair(rng: np.random.Generator, female: float, age: float, darkness: float) -> Hair:
    """Hair of a person: `female`, `age` (0 young, 1 old) and skin `darkness` (0 to 1) only shift the odds."""
    odds = dict(zip(HAIR_STYLES, (0.06, 0.10, 0.28, 0.18, 0.12, 0.12, 0.14), strict=True))
    if female > 0.5:
        odds |= {"bald": 0.01, "buzz": 0.02, "short": 0.12, "swept": 0.15, "bob": 0.28, "long": 0.32}
    if darkness > 0.6:
        odds["curly"] += 0.3
    weights = np.array([odds[style] for style in HAIR_STYLES])
    style = HAIR_STYLES[rng.choice(len(HAIR_STYLES), p=weights / weights.sum())]

    grey = age > 0.5 and rng.random() < age
    blond_odds = 0.2 * (1 - darkness)
    names = ("grey", "white") if grey else ("black", "dark brown", "brown", "blond", "red", "dyed")
    shares = (0.6, 0.4) if grey else (0.3 + 0.5 * darkness, 0.25, 0.2, blond_odds, blond_odds / 2, 0.015)
    colour = HAIR_COLOURS[names[rng.choice(len(names), p=np.array(shares) / sum(shares))]]

    short = style in ("bald", "buzz", "short")
    volume = {"bald": 0.0, "buzz": 0.012, "curly": rng.uniform(0.08, 0.2)}.get(style, rng.uniform(0.035, 0.11))
    length = {"bob": rng.uniform(0.1, 0.4), "long": rng.uniform(0.5, 1.2), "curly": rng.uniform(0.0, 0.5) * female}
    return Hair(
        style=style,
        colour=_colour(np.array(colour) * rng.uniform(0.75, 1.3) + rng.normal(0, 0.012, 3)),
        volume=float(volume),
        hairline=float(rng.uniform(-0.06, 0.06) + 0.06 * age * (1 - female)),
        recession=float(rng.uniform(-0.14, 0.18) - 0.06 * female),
        fringe=float(rng.uniform(0.06, 0.2)) if not short and rng.random() < 0.22 else 0.0,
        length=float(length.get(style, 0.0)),
        parting=float(rng.uniform(-0.45, 0.45)),
        curl=float(rng.uniform(0.7, 1.0) if style == "curly" else rng.uniform(0, 0.45)),
        sweep=float(rng.normal(0, 0.05)),
        streaks=float(rng.uniform(0.2, 0.6)),
    )


def sample_glasses(rng: np.random.Generator) -> Glasses:
    """Thin metal or thick plastic, round or square."""
    metal = rng.random() < 0.4
    grey = rng.uniform(0.25, 0.8)
    plastic = np.array(((0.05, 0.05, 0.06), (0.25, 0.13, 0.07), rng.uniform(0.1, 0.7, 3)))[rng.integers(3)]
    return Glasses(
        width=float(rng.uniform(0.18, 0.235)),
        height=float(rng.uniform(0.105, 0.19)),
        squareness=float(rng.uniform(2.0, 4.5)),
        thickness=float(rng.uniform(0.007, 0.012) if metal else rng.uniform(0.014, 0.034)),
        colour=_colour(np.array([grey, 0.9 * grey, 0.75 * grey]) if metal else plastic),
    )


def sample_beard(rng: np.random.Generator, hair: tuple[float, float, float], age: float) -> Beard:
    """`hair`: the colour of that on the head."""
    shape = BEARD_SHAPES[rng.choice(len(BEARD_SHAPES), p=(0.48, 0.12, 0.18, 0.14, 0.08))]
    trimmed = rng.random() < 0.6
    length = rng.uniform(0.02, 0.05) if trimmed else rng.uniform(0.05, 0.2)
    tint = np.array(hair) * rng.uniform(0.7, 1.15) * (1 + rng.uniform(0, 0.3) * np.array([1, 0.1, -0.2]))
    grey = np.array(HAIR_COLOURS["grey"]) * rng.uniform(0.8, 1.4)
    share = rng.uniform(0.3, 1) if age > 0.4 and rng.random() < age else 0.0
    return Beard(
        shape=shape,
        length=float(length if shape in ("full", "goatee") else min(length, 0.06)),
        density=float(rng.uniform(0.6, 1.0)),
        colour=_colour(tint + share * (grey - tint)),
    )


def sample_hat(rng: np.random.Generator) -> Hat:
    return Hat(
        edge=float(rng.uniform(0.24, 0.46)),
        tilt=float(rng.normal(0, 0.03)),
        thickness=float(rng.uniform(0.03, 0.08)),
        colour=_colour(rng.uniform(0.05, 0.9, 3) * rng.uniform(0.4, 1)),
    )


def sample_look(rng: np.random.Generator, african: float, female: float, age: float) -> Look:
    """Appearance of a person. `african`, `female` and `age` (0 to 1) are the weights of the shape's macro targets."""
    darkness = float(np.clip(0.75 * rng.beta(0.9, 1.2) + 0.5 * african * rng.random(), 0, 1))
    if darkness < 0.5:
        tone = LIGHT_SKIN + (MIDDLE_SKIN - LIGHT_SKIN) * darkness * 2
    else:
        tone = MIDDLE_SKIN + (DARK_SKIN - MIDDLE_SKIN) * (darkness * 2 - 1)
    tone = tone * (1 + rng.normal(0, 0.035, 3))
    # Lips are as bright as the skin around them allows, but never as yellow.
    lips = (0.55 * tone + 0.45 * (LIGHT_LIPS + darkness * (DARK_LIPS - LIGHT_LIPS))) * (1 + rng.normal(0, 0.06, 3))
    lips *= np.array([1.0, 0.86, 0.9])
    made_up = female > 0.5 and rng.random() < 0.55
    if made_up:
        lips = 0.45 * lips + 0.55 * np.array([rng.uniform(0.45, 0.85), rng.uniform(0.1, 0.4), rng.uniform(0.15, 0.4)])
    hair = sample_hair(rng, female, age, darkness)
    brow = np.array(hair.colour) * rng.uniform(0.45, 0.9)
    eyes = np.array([0.45, 0.25, 0.15, 0.15, 0.1]) if darkness < 0.45 else np.array([0.75, 0.22, 0.03, 0, 0])
    iris = np.array(IRIS_COLOURS[rng.choice(5, p=eyes / eyes.sum())]) * rng.uniform(0.75, 1.3)
    shadow = tone * rng.uniform(0.35, 0.8, 3) if made_up else tone * 0.75
    look = Look(
        tone=_colour(tone),
        mottling=float(rng.uniform(0.4, 1.6)),
        blush=float(rng.uniform(0, 0.25) + (0.1 if made_up else 0)),
        freckles=float(max(0.0, rng.uniform(-1.2, 1.0)) * (darkness < 0.5)),
        lip_colour=_colour(lips),
        lip_strength=float(rng.uniform(0.75, 1.0)),
        brow_colour=_colour(np.minimum(brow, tone * 0.75)),
        brow_thickness=float(rng.uniform(0.016, 0.034) - 0.004 * female),
        brow_density=float(rng.uniform(0.55, 1.0)),
        iris=_colour(iris),
        iris_size=float(rng.uniform(26, 31)),
        eye_shadow=_colour(shadow),
        eye_shadow_strength=float(rng.uniform(0.1, 0.6)),
        liner=float(rng.uniform(0.3, 1.0) if made_up else rng.uniform(0, 0.35)),
        lashes=float(rng.uniform(0.4, 1.0) if female > 0.5 else rng.uniform(0.1, 0.6)),
        stubble=float(max(0.0, rng.uniform(-0.6, 1.0)) if female < 0.4 else 0.0),
        wrinkles=float(np.clip(age * rng.uniform(0.5, 1.2), 0, 1)),
        gloss=float(rng.uniform(0.03, 0.22)),
        teeth=_colour(np.array([0.93, 0.90, 0.90 - rng.beta(1.5, 3) * 0.3]) * rng.uniform(0.82, 1.03)),
        gap=float(rng.beta(1.2, 2.5)),
        hair=hair,
        glasses=sample_glasses(rng) if rng.random() < 0.14 + 0.12 * age else None,
        hat=sample_hat(rng) if rng.random() < 0.06 else None,
        seed=int(rng.integers(2**31)),
    )
    own = np.random.default_rng((look.seed, 4))  # of the seed of the person's textures
    if female < 0.35 and own.random() < 0.4:
        look = replace(look, beard=sample_beard(own, hair.colour, age), stubble=float(own.uniform(0.3, 0.8)))
    return look


def irradiance(directions: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Light that reaches a surface from lights far away, as a function of its unit normal (x, y, z): (9, 3), factors of
    1, x, y, z, xy, yz, xz, 3z^2 - 1, x^2 - y^2 (spherical harmonics up to the second degree; Ramamoorthi and Hanrahan
    2001). directions (n, 3) unit vectors towards the lights, colours (n, 3)."""
    x, y, z = directions.T
    basis = np.stack([np.ones_like(x), x, y, z, x * y, y * z, x * z, 3 * z * z - 1, x * x - y * y])
    weights = np.array([1 / 4, 1 / 2, 1 / 2, 1 / 2, 15 / 16, 15 / 16, 15 / 16, 5 / 64, 15 / 64])
    return (weights[:, None] * (basis @ colours)).astype(np.float32)


def _sample_surroundings(rng: np.random.Generator, brightness: float) -> np.ndarray:
    """Irradiance (9, 3) of a sky or ceiling, a floor, and a few windows or lamps; `brightness` on average."""
    count = int(rng.integers(2, 6))
    directions = rng.normal(0, 1, (count, 3)) * [1, 0.7, 0.8] + [0, -0.2, 0.3]
    directions = np.concatenate([directions, [[0, -1, 0.2], [0, 1, 0.2], [0, 0, 1]]])
    strengths = np.concatenate([rng.exponential(0.7, count), rng.uniform(0.5, 2.0, 1), rng.uniform(0.2, 0.8, 2)])
    tints = 1 + rng.normal(0, 0.07, (len(strengths), 1)) * [1, 0, -1] + rng.normal(0, 0.03, (len(strengths), 3))
    colours = strengths[:, None] * tints / strengths.sum()
    light = irradiance(directions / np.linalg.norm(directions, axis=1, keepdims=True), colours)
    return light * brightness / light[0].mean()


def undegraded(scene: Scene) -> Scene:
    """The same in focus, without noise, compression and brushes: what networks that draw shall learn from."""
    painted = scene.filter == "painted"
    return replace(
        scene, blur=0.0, noise=0.0, jpeg=0, video=0, aperture=0.0, filter="none" if painted else scene.filter
    )


def sample_scene(rng: np.random.Generator) -> Scene:
    """Place, light, clothes and camera of one clip."""
    angle, height = rng.uniform(-1.1, 1.1), rng.uniform(-0.1, 0.8)
    light = np.array([np.sin(angle), -height, np.cos(angle)])
    warmth = rng.normal(0, 0.07)
    tint = np.array([1 + warmth, 1, 1 - warmth])
    ambient = rng.uniform(0.28, 0.75)
    key = (1.12 - ambient) * rng.uniform(0.85, 1.15)
    cloth, surroundings = rng.uniform(0.03, 0.95, (3, 3)), rng.uniform(0.02, 0.98, (6, 3))
    for colours, share in ((cloth, 0.7), (surroundings, 0.85)):
        if rng.random() < share:  # muted colours are more usual than bright ones
            grey = colours.mean(1, keepdims=True)
            colours += rng.uniform(0.5, 0.95) * (grey - colours)
    surroundings_light = _sample_surroundings(rng, ambient)
    light /= np.linalg.norm(light)
    # a camera exposes for the face: what a surface that faces it reflects
    frontal = (
        key * max(light[2], 0.3) + (surroundings_light * [[1], [0], [0], [1], [0], [0], [0], [2], [0]]).sum(0).mean()
    )
    picture_filter = str(rng.choice(FILTERS, p=(0.82, 0.07, 0.03, 0.05, 0.03)))
    return Scene(
        background=BACKGROUNDS[rng.choice(len(BACKGROUNDS), p=(0.12, 0.18, 0.06, 0.08, 0.08, 0.2, 0.13, 0.15))],
        background_colours=tuple(_colour(c) for c in surroundings),
        background_blur=float(rng.choice((0.0, 1.0), p=(0.25, 0.75)) * rng.uniform(0.5, 8)),
        collar=COLLARS[rng.choice(len(COLLARS), p=(0.35, 0.25, 0.15, 0.2, 0.05))],
        clothes_colours=tuple(_colour(c) for c in cloth),
        clothes_pattern=str(rng.choice(("plain", "stripes", "checks", "blotches"), p=(0.68, 0.12, 0.08, 0.12))),
        light=_three(light),
        light_colour=_three(key * tint),
        ambient=tuple(_three(row) for row in surroundings_light),
        mouth_light=float(rng.uniform(0.12, 0.3)),
        distance=float(1 / rng.uniform(1 / 22, 1 / 4.2)),
        exposure=float(rng.uniform(0.72, 1.12) / frontal),
        contrast=float(rng.uniform(0.85, 1.18)),
        saturation=float(rng.choice((1.0, rng.uniform(0.4, 1.3)), p=(0.5, 0.5))),
        vignette=float(max(0.0, rng.uniform(-0.3, 0.3))),
        filter=picture_filter,
        blur=float(rng.choice((0.0, rng.uniform(0.3, 1.0)), p=(0.55, 0.45))),
        noise=float(rng.choice((0.0, rng.uniform(0.002, 0.02)), p=(0.5, 0.5))),
        jpeg=int(rng.integers(35, 96)) if rng.random() < 0.5 else 0,
        seed=int(rng.integers(2**31)),
        aperture=float(rng.uniform(1.5, 6)) if rng.random() < 0.3 else 0.0,
        video=int(rng.integers(24, 37)) if rng.random() < 0.25 else 0,
    )
