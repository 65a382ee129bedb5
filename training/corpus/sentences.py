"""English sentences for the synthetic corpus, split into train, validation, test and judge.

Half were written by hand to cover every English sound in varied neighbourhoods, with plenty of p, b and m, the
sounds whose lip closure everybody sees; the others come from a small grammar with a fixed vocabulary. Both are the
same on every machine. Held-out sentences differ from training sentences; their words may occur in both.
"""

from __future__ import annotations

import random

__all__ = ["SENTENCES", "sentences"]

_WRITTEN = """
My mother baked plum pie for the whole village.
Please put the blue paper cup back by the pump.
Bob brought a big brown bag of apples home.
The baby slept badly because of the barking puppy.
Maybe we should move the piano before Monday.
Pam bumped her elbow on the bathroom door.
A small boat bobbed up and down in the harbor.
Peter picked a perfect pumpkin from the patch.
Both brothers became members of the rowing club.
I keep my maps in the top drawer.
The museum opens at half past eleven.
Can you help me climb over this wall?
Nobody remembered to lock the camping van.
Our neighbor plays the trumpet every evening.
The bumblebee moved slowly from bloom to bloom.
Mum made mushroom soup and warm bread.
Step back from the platform, please.
He mumbled an apology and stepped out.
The lamp by my bed broke again.
Some people simply prefer to be alone.
They measured the garage with a long rope.
The treasure was buried beneath a beech tree.
It is usually a pleasure to see you.
His vision became blurred after the collision.
Casual clothes are fine for the party.
Each child chose a chunk of cheddar cheese.
The judge gently shook his large head.
George enjoys ginger juice with his lunch.
A cheerful chap was washing the church windows.
She sells fresh fish at the shore.
The ocean is rough and the ship shakes.
Should I push the chair against the shelf?
Thick fog rolled over the north path.
Both of them thought the theory was healthy.
Their father gathered feathers for the weather vane.
Those three brothers breathe through their mouths.
This is the thing that bothers the author.
Five friendly farmers followed the ferry.
Very few villages have five vineyards.
The vivid violet flowers live in the valley.
Half of the coffee fell on the sofa.
We have never driven above fifty.
The fire brigade arrived after four hours.
Wendy wants to wear a white woolen sweater.
What would you do with one wish?
We always walk west when the wind is weak.
The quick swan swam away from the swamp.
Why were you waiting in the water?
You used to sing beautiful yellow songs.
The young lawyer yelled across the yard.
Yesterday the youth union voted yes.
Look at the cook pull a good book from the hook.
The full moon soon drew a crowd to the pool.
Two new shoes were found on the roof.
Who knew that blue goose could move so smoothly?
Joe drove alone over the snowy road.
Go home slowly, the stones are cold.
The boy enjoyed the noisy toy.
Oil boils and spoils the royal coin.
The loud crowd found its way out of town.
How now, brown cow, without a sound.
Our house is down by the round tower.
I might try to fly a kite tonight.
Five white mice ride a tiny bike.
The kind child smiled in bright light.
They say the train came late today.
Eight waiters may bake a cake for Jane.
Great rain makes the lake safe.
Each evening she reads three pages to me.
Feed the sheep and keep the field green.
We need to meet the team by the sea.
The fish in this tin is still big.
Sit still and listen to this little hint.
Ten men sent seven letters to the president.
Let me get the red pen from the desk.
The fat cat sat happily on a black mat.
Ask the man to pack that black hat.
Father parked the car far from the barn.
Calm palms in the large park are hard to harm.
Tom got hot coffee and a lot of sauce.
All the tall daughters caught a small ball.
The author bought four more oranges in August.
Some of us must come up for lunch.
Nothing but trouble comes from such a hunch.
The nurse heard the first bird in the early church.
Her words were worth a third of the world.
Poor tourists endure the tour without cure.
Here we hear the cheers of nearly a year.
Where is the chair that they share over there?
I really do not care about the rare pear.
Sing a long song about the spring evening.
The strong young king is bringing a ring.
Thinking about banks makes my uncle angry.
Go and get the green garden gate.
The dog dug a big hole beside the log.
Cold cake can crack quickly in the kitchen.
Look for the key in the back pocket.
Hold his hand and hurry home to Helen.
Perhaps the huge horse has hidden behind the hill.
Red roses are really rare around here.
The rabbit ran rapidly around the rocks.
Little Lily let the lemon fall in the lake.
Leave the yellow light on until late.
Nine nice nurses never knew the news.
Now and then the sun shines on the snow.
Ten tiny turtles tried to take a turn.
Do not doubt the daring dancer today.
Sister Susan sings silly songs on Sunday.
The zoo is closed because the zebras are dozing.
His eyes were dazzled by the busy bees.
I never said that you could borrow my phone.
That was the best holiday of my life.
What on earth happened to the kitchen?
I cannot believe you did this to me.
Tell me exactly what you saw.
We won the match and everybody is singing.
She left without saying goodbye to anyone.
Do you have any idea what time it is?
The results came back this morning.
There is somebody standing behind the curtain.
I told you not to open that box.
It smells as if something died in here.
You must be very proud of yourself.
I have been waiting for this moment.
Nothing will ever be the same again.
Look who is coming up the path!
He promised me that it would never happen again.
Put that down and come over here.
We might lose everything we have built.
I miss the way we used to laugh.
My heart is beating like a drum.
They offered me the job this afternoon.
Is that really all you can say?
Someone ate my sandwich from the fridge.
Everything is going to be all right.
Prices rose by nine percent last month.
The next train to Bristol leaves from platform two.
Add a pinch of pepper and simmer for ten minutes.
Turn left at the bank and walk up the hill.
The company employs about a thousand people.
Rain is expected in the north before midnight.
This machine can read and write in many languages.
Press the button and wait for the beep.
Our meeting has been moved to Wednesday.
The library lends music as well as books.
"""

_PEOPLE = (
    "my brother",
    "the baker",
    "Emma",
    "our teacher",
    "Mister Brown",
    "the young pilot",
    "Paul",
    "her uncle",
    "the mayor",
    "Maria",
    "a stranger",
    "the whole family",
    "Beth",
    "my boss",
    "the plumber",
    "Victor",
)
_PAST = (
    "bought",
    "found",
    "broke",
    "painted",
    "forgot",
    "wanted",
    "hid",
    "borrowed",
    "moved",
    "watched",
    "described",
    "repaired",
    "dropped",
    "chose",
    "threw away",
    "measured",
)
_THINGS = (
    "the big umbrella",
    "a bag of peppers",
    "the old map",
    "five empty bottles",
    "a beautiful vase",
    "the broken lamp",
    "some fresh bread",
    "the purple blanket",
    "a cheap watch",
    "the missing book",
    "a box of matches",
    "the leather shoes",
    "my favorite jumper",
    "the garage key",
    "a bunch of flowers",
    "the television",
    "an enormous pie",
    "the wooden bench",
)
_PLACES = (
    "in the kitchen",
    "by the river",
    "behind the shop",
    "at the museum",
    "on the beach",
    "near the bridge",
    "under the table",
    "outside the theatre",
    "at my mother's house",
    "in the village",
    "by the big church",
    "upstairs",
)
_TIMES = (
    "this morning",
    "last September",
    "before breakfast",
    "on Thursday",
    "after the storm",
    "a month ago",
    "yesterday",
    "just in time",
    "at the weekend",
    "once again",
)
_TOPICS = (
    "the weather",
    "our plan",
    "this problem",
    "the film",
    "my job",
    "the number",
    "their wedding",
    "the journey",
    "that noise",
    "the price",
    "her voice",
    "the rumor",
)
_VIEWS = (
    "is better than I imagined",
    "makes no sense to me",
    "matters more than money",
    "came up again at lunch",
    "keeps me awake at night",
    "was a complete surprise",
    "should never be mentioned here",
    "will probably change by tomorrow",
    "is none of your business",
    "bothers almost everybody",
)
_WISHES = (
    "leave the bags by the door",
    "call me back before eleven",
    "give this form to the manager",
    "show me how the pump works",
    "move your car from the bus stop",
    "help me pick a birthday card",
    "wash the blue plates first",
    "bring both of the children",
    "check the map for a path",
    "stop pulling my jumper",
    "read that page to us",
    "join the queue over there",
)


def _generated(count: int) -> list[str]:
    """``count`` distinct sentences from the grammar."""
    dice = random.Random(20240229)
    makers = (
        lambda: f"{dice.choice(_PEOPLE)} {dice.choice(_PAST)} {dice.choice(_THINGS)} {dice.choice(_PLACES)}.",
        lambda: f"{dice.choice(_PEOPLE)} {dice.choice(_PAST)} {dice.choice(_THINGS)} {dice.choice(_TIMES)}.",
        lambda: (
            f"{dice.choice(('I think', 'of course', 'maybe', 'they say'))} {dice.choice(_TOPICS)} "
            f"{dice.choice(_VIEWS)}."
        ),
        lambda: f"{dice.choice(('could you', 'would you please', 'please', 'you had better'))} {dice.choice(_WISHES)}",
        lambda: f"did {dice.choice(_PEOPLE)} really say that {dice.choice(_TOPICS)} {dice.choice(_VIEWS)}?",
    )
    found: dict[str, None] = {}
    while len(found) < count:
        text = dice.choice(makers)()
        if text[-1] not in ".?":
            text += "?" if text.startswith(("could", "would")) else "."
        found[text[0].upper() + text[1:]] = None
    return list(found)


def _split() -> dict[str, tuple[str, ...]]:
    generated = _generated(750)
    every = [line.strip() for line in _WRITTEN.strip().splitlines()] + generated[:450]
    every = list(dict.fromkeys(every))
    judge = tuple(text for text in generated[450:] if text not in every)
    random.Random(7).shuffle(every)
    tenth = len(every) // 10
    return {
        "judge": judge,
        "test": tuple(every[:tenth]),
        "validation": tuple(every[tenth : 2 * tenth]),
        "train": tuple(every[2 * tenth :]),
    }


SENTENCES: dict[str, tuple[str, ...]] = _split()
"""About 590 sentences by split: train (80 %), validation and test (10 % each); and 300 more for the networks that judge
the results ("judge")."""


def sentences(split: str) -> tuple[str, ...]:
    """The sentences of a split. Raises ValueError unless split is train, validation, test or judge."""
    if split not in SENTENCES:
        raise ValueError(f"split must be one of {', '.join(sorted(SENTENCES))}, not {split!r}")
    return SENTENCES[split]
