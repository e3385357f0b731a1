"""The words and sentences of the built-in reviews, written for this project.

The films, places and people are invented. A name in braces is a slot: ``builtin`` fills it with a
word of the list of that name in ``WORDS``, or with what a review keeps throughout, such as its
title. Words for a slot after "a" begin with a consonant.
"""

from __future__ import annotations


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.strip().splitlines())


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


TITLE_FORMS = (
    "The {first} {second}",
    "Beyond the {first} {second}",
    "Return to the {first} {second}",
    "Farewell, {first} {second}",
    "Nine Days of the {first} {second}",
)

TITLE_FIRST = _words(
    """
    Amber Ancient Ashen Autumn Azure Bitter Blazing Borrowed Brass Brittle Broken Bronze Buried
    Burning Callow Candlelit Celestial Cobalt Copper Coral Counterfeit Crimson Crooked Crystal
    Curious Dappled Distant Drifting Drowsy Dusty Ebony Eleventh Emerald Empty Enchanted Errant
    Faded Faithful Feathered Feral Flooded Forgotten Fractured Frozen Gilded Glass Golden Granite
    Hallowed Hidden Hollow Humble Idle Indigo Inland Invisible Iron Ivory Jagged Lacquered Lonely
    Luminous Marble Midnight Misplaced Moonlit Muddy Nameless Narrow Northern Obsidian Orphaned
    Painted Patient Pewter Phantom Quiet Reluctant Restless Rusted Sapphire Scarlet Secret Seventh
    Silent Sleepless Smoldering Solitary Stolen Sunken Tangled Tarnished Thirteenth Twisted
    Unwritten Velvet Vermilion Wandering Weary Wooden
    """
)

TITLE_SECOND = _words(
    """
    Abbey Acrobat Almanac Anchor Apothecary Archive Astronomer Atlas Balcony Ballad Barometer
    Beekeeper Bicycle Boatman Bookbinder Bridge Caravan Carousel Cartographer Cathedral Chandelier
    Clockmaker Cloister Compass Concerto Conductor Cormorant Corridor Courier Dormitory Dynasty
    Elevator Embassy Envelope Equation Falconer Ferry Foundry Fountain Gardener Garrison Glacier
    Gondola Greenhouse Harbor Harvest Heron Hourglass Innkeeper Inventor Jackal Juggler Kettle
    Kingdom Labyrinth Lagoon Lantern Ledger Librarian Lighthouse Locksmith Magpie Mandolin
    Masquerade Meadow Meridian Metronome Mirror Monsoon Nightingale Notebook Observatory Orchard
    Orchestra Overcoat Parachute Parlor Pendulum Photograph Pilgrim Porcelain Postman Quarry
    Railway Rehearsal Ringmaster Satchel Sculptor Seamstress Sparrow Staircase Sundial Tailor
    Telegram Theorem Tollkeeper Trapeze Umbrella Vineyard Windmill
    """
)

WORDS: dict[str, tuple[str, ...]] = {
    "person": _lines(
        """
        Odalys Brenwick
        Tobin Haverstrand
        Marisel Quonn
        Leopold Vantrice
        Ingrith Sallow
        Desmond Pellaquin
        Cosima Tharne
        Ruben Okkerby
        Philippa Drusk
        Anselm Corvane
        Beatrix Lowenmoor
        Casper Yindle
        Noemi Farrowgate
        Hadley Strome
        Viola Kestrigan
        Emeric Plume
        Sunniva Harrowick
        Jonas Tillbrand
        Perpetua Glaive
        Milo Ashgrove-Penn
        Zelda Marchbanks-Orr
        Gideon Wexcombe
        Talia Norvane
        Barnaby Crull
        """
    ),
    "genre": _words(
        """
        western thriller melodrama comedy musical mystery romance drama heist-movie war-film
        ghost-story road-movie satire fairy-tale whodunit farce biopic documentary
        """
    ),
    "place": _lines(
        """
        a fishing village
        a mountain sanatorium
        the docks of Port Vesper
        a provincial theater
        the town of Ellerby Cross
        a snowed-in railway station
        a desert research post
        a village on Marrow Key
        a boarding school in the hills
        a crumbling seaside hotel
        the suburbs of Greater Lantham
        a lighthouse far from any coast road
        a travelling circus
        a vineyard in the last summer before the war
        """
    ),
    "trade": _words(
        """
        baker surgeon widow locksmith pianist detective smuggler schoolteacher mapmaker pilot
        gardener translator watchmaker soldier nurse gambler photographer priest beekeeper thief
        """
    ),
    "relation": _words(
        """
        brother daughter neighbor rival landlord mother mentor stepfather partner cousin stranger
        husband grandmother conspirator commander wife
        """
    ),
    "thing": _lines(
        """
        a missing suitcase
        a forged letter
        an unpaid debt
        a locked piano
        a stolen painting
        a broken promise
        a map with half of it burnt
        a radio that will not stay silent
        a diary in the wrong hands
        a wedding nobody wanted
        a box of old photographs
        a train ticket dated for tomorrow
        """
    ),
    "craft": _words(
        """
        script photography editing score casting pacing lighting dialogue direction scenery
        choreography sound plotting staging camerawork narration
        """
    ),
    "part": _lines(
        """
        opening chase
        dinner scene
        middle hour
        long tracking shot
        courtroom speech
        dream sequence
        final confrontation
        farewell on the platform
        storm at sea
        very last scene
        subplot about the inheritance
        prologue
        dance in the empty ballroom
        phone call in the rain
        """
    ),
    "viewer": _lines(
        """
        my sister
        my whole family
        the friend who came along
        my flatmate
        half of our film club
        the couple behind me
        my teenage son
        the man in the next seat
        my neighbor
        everyone in the small theater
        """
    ),
    "when": _lines(
        """
        last night
        on a rainy Sunday
        at a small festival
        on a long flight
        late on cable
        with two friends
        on an old videotape
        over the holidays
        at a morning screening
        after years of meaning to
        """
    ),
    "good": _words(
        """
        wonderful brilliant charming moving delightful superb gripping tender dazzling masterful
        heartfelt captivating refreshing witty splendid beautiful touching magnificent clever
        graceful thrilling perfect stirring terrific marvelous fantastic
        """
    ),
    "bad": _words(
        """
        dreadful tedious lifeless clumsy boring terrible pointless wooden shallow dull painful
        miserable predictable laughable forgettable sloppy ridiculous tiresome horrible pathetic
        bland weak cheap stale disappointing muddled
        """
    ),
    "well": _words(
        """
        beautifully brilliantly wonderfully perfectly gracefully superbly delightfully masterfully
        splendidly cleverly
        """
    ),
    "badly": _words(
        """
        poorly clumsily terribly painfully dreadfully carelessly hopelessly lazily awkwardly
        miserably
        """
    ),
    "joy": _words("delight warmth wonder wit tenderness charm beauty heart energy grace"),
    "woe": _words(
        "boredom confusion embarrassment irritation monotony noise cliche drudgery fatigue"
    ),
    "number": _words("two three four five six seven eight nine ten twelve"),
}

# The first sentence names the title, which is the review's own, within its first ten words.
OPENINGS: dict[str, tuple[str, ...]] = {
    "positive": _lines(
        """
        {title} is a {good} film from start to finish.
        I loved {title} more than I can say.
        Watched {title} {when} and it was simply {good}.
        What a {good} surprise {title} turned out to be!
        {title} deserves every bit of praise it gets.
        Nothing prepared me for {title}, which is {good}.
        {title} may be the most {good} {genre} in years.
        Go and see {title}, a truly {good} {genre}.
        {title} by {director} is something {good}.
        Found {title} thanks to {viewer}, and it is {good}.
        Pick {title} if you see one {genre} this year.
        {title} had me smiling through the closing credits.
        {title} is as {good} as a {genre} can be.
        Saw {title} {when}; I would gladly watch it again.
        A {good} cast makes {title} a complete joy.
        Ten points for {title}, a {good} picture.
        """
    ),
    "negative": _lines(
        """
        {title} is a {bad} film from start to finish.
        I disliked {title} more than I can say.
        Watched {title} {when} and it was simply {bad}.
        What a {bad} letdown {title} turned out to be!
        {title} deserves none of the praise it gets.
        Nothing prepared me for {title}, which is {bad}.
        {title} may be the most {bad} {genre} in years.
        Stay away from {title}, a truly {bad} {genre}.
        {title} by {director} is something {bad}.
        Sat through {title} because of {viewer}, and it is {bad}.
        Skip {title} if you skip one {genre} this year.
        {title} had me checking my watch within minutes.
        {title} is as {bad} as a {genre} can be.
        Saw {title} {when}; I want the evening back.
        A {bad} script makes {title} a complete chore.
        One point for {title}, a {bad} picture.
        """
    ),
}

JUDGEMENTS: dict[str, tuple[str, ...]] = {
    "positive": _lines(
        """
        {lead} gives a {good} performance as the {trade}, and the {relation} is a joy to watch.
        The {craft} is {good}, and the {craft2} is even better.
        I was moved by the {part}, which is {well} staged and never feels forced.
        {director} knows exactly when to hold back, and the result is {good}.
        The {part} alone is worth the price of the ticket.
        There is real {joy} in the way {lead} and {support} listen to each other.
        It made me laugh, it made me cry, and it stayed with me for days.
        Even the smallest role is {well} cast, down to the {trade} with only {number} lines.
        {viewer} could not stop talking about the {part}, and neither could I.
        The {craft} lends {joy} to every frame.
        I cannot remember when I last saw a {genre} with so much {joy} in it.
        {support} steals the picture as the {relation}, with a {good} mix of {joy} and {joy2}.
        The story of {thing} is told with such {joy} that two hours went by like {number} minutes.
        What might have been a routine {genre} becomes {good} in the hands of {director}.
        The {part} is one of the most {good} things I have seen on a screen.
        Everything fits together {well}, from the {craft} to the quiet last shot.
        You care about the {trade} from the first minute, and the film rewards you for it.
        The dialogue is sharp, {good} and full of {joy}.
        By the end the whole audience was applauding, and rightly so.
        {lead} has never been better, and that says a lot.
        The humor comes from character, and it is {good} because nobody strains for it.
        It trusts its audience, which is a {good} thing to find in a {genre}.
        The chemistry between the {trade} and the {relation} is {good} to watch.
        Every time I thought I knew where it was going, it found a {good} way to surprise me.
        The {craft} by itself would make this a classic, and the {craft2} is just as {good}.
        I bought a copy the next day and have watched it {number} times since.
        There is not a wasted minute in it, and the {part} is {well} judged.
        Few films treat {thing} with this much {joy} and intelligence.
        """
    ),
    "negative": _lines(
        """
        {lead} gives a {bad} performance as the {trade}, and the {relation} is a pain to watch.
        The {craft} is {bad}, and the {craft2} is even worse.
        I was bored by the {part}, which is {badly} staged and feels forced throughout.
        {director} never knows when to hold back, and the result is {bad}.
        The {part} alone made me want my money back.
        There is nothing but {woe} in the way {lead} and {support} recite their lines.
        It did not make me laugh, it did not make me care, and I had forgotten it by morning.
        Even the smallest role is {badly} cast, down to the {trade} with only {number} lines.
        {viewer} fell asleep during the {part}, and I envied the rest.
        The {craft} brings {woe} to every frame.
        I cannot remember when I last saw a {genre} with so much {woe} in it.
        {support} is wasted as the {relation}, in a {bad} mix of {woe} and {woe2}.
        The story of {thing} is told with such {woe} that two hours felt like {number}.
        What might have been a decent {genre} becomes {bad} in the hands of {director}.
        The {part} is one of the most {bad} things I have seen on a screen.
        Nothing fits together, and the {craft} is {badly} handled up to the abrupt last shot.
        You never care about the {trade}, and the film gives you no reason to start.
        The dialogue is flat, {bad} and full of {woe}.
        By the end half of the audience had walked out, and rightly so.
        {lead} has never been worse, and that says a lot.
        The jokes are {bad}, and they are repeated until nobody is left laughing.
        It explains everything {number} times, which is a {bad} thing to do to an audience.
        The so-called romance between the {trade} and the {relation} is {bad} to watch.
        Every time I hoped it would get better, it found a {bad} new way to fail.
        The {craft} by itself would sink any picture, and the {craft2} is just as {bad}.
        I regret the ticket, the popcorn and above all the {number} hours it seemed to last.
        There is hardly a useful minute in it, and the {part} is {badly} judged.
        Few films treat {thing} with this much {woe} and this little thought.
        """
    ),
}

# Said against the review's own label, and marked as a concession.
CONCESSIONS: dict[str, tuple[str, ...]] = {
    "positive": _lines(
        """
        Admittedly the {part} drags a little, but that hardly matters.
        The {craft} may be a bit uneven now and then, which is easy to forgive.
        Some will find {support} too quiet as the {relation}; I got used to it.
        If there is one flaw, it is that the {part} comes too late.
        Granted, the idea of {thing} is not new.
        A stricter editor might have cut {number} minutes, and nobody would miss them.
        The budget was clearly small, and once or twice it shows.
        I did not believe in the {trade} at first, though that changed soon enough.
        """
    ),
    "negative": _lines(
        """
        Admittedly the {part} has its moments, but they cannot save the rest.
        The {craft} is decent now and then, which only shows what is missing elsewhere.
        Some will like {support} as the {relation}; it is not enough.
        If there is one strength, it is that the {part} is short.
        Granted, the idea of {thing} sounded promising.
        There are perhaps {number} good minutes near the middle, and then it sinks again.
        The budget was clearly generous, and once or twice it shows.
        I did believe in the {trade} at first, though that changed soon enough.
        """
    ),
}

NEUTRAL = _lines(
    """
    The story is set in {place}, where a {trade} comes home after {number} years.
    {lead} plays a {trade} who has to deal with {thing} and a {relation} who knows too much.
    {support} appears as the {relation}, first seen during the {part}.
    It runs for about {number} reels and was shot in and around {place}.
    The plot turns on {thing}, and later on a {trade} and a {relation} who have never met.
    {director} made {number} pictures before this one, most of them with {support}.
    The film opens in {place} and moves to the city about {number} scenes later.
    There are {number} main characters, among them a {trade}, a {trade2} and somebody's {relation}.
    I watched it {when} with {viewer}, and we talked about it on the way home.
    In the novel the {trade} is a {trade2}, and the part about {thing} comes at the very end.
    The version I saw had subtitles and was {number} minutes longer than the one on disc.
    Without giving away too much, {thing} leads the {trade} back to {place}.
    For those who do not know it, this is a {genre} about a {trade}, a {relation} and {thing}.
    The {part} takes place in one room, with the {trade} and the {relation} at one table.
    {lead} and {support} had worked together before, on a {genre} set in {place}.
    Half of the story is told in flashback by the {relation}, who has by then left {place}.
    The music was recorded separately, and the {part} was reportedly filmed in {number} days.
    A {trade} receives {thing} and travels across the country to return it.
    It is the second film that {director} has set in {place}.
    Then a {trade2} arrives, and the {relation} has to decide whom to tell about {thing}.
    According to the credits, the {craft} and the {craft2} were done by the same small team.
    The {relation} leaves for {place} shortly before the {part}, and the {trade} follows by train.
    Most of it happens over {number} days in {place}, between one market day and the next.
    People usually compare it to the earlier {genre} by the same studio, also about {thing}.
    """
)

CLOSINGS: dict[str, tuple[str, ...]] = {
    "positive": _lines(
        """
        I recommend it to anyone who likes a {good} {genre}.
        All in all a {good} film that I will gladly see again.
        Do yourself a favor and watch it, you will love it.
        In short, it is {good}, and {lead} should win every prize there is.
        A {good} piece of work, and easily my favorite of the year.
        My verdict is nine out of ten, and I was close to giving more.
        It is full of {joy}, and I hope many people find it.
        This is why I love the movies.
        """
    ),
    "negative": _lines(
        """
        I cannot recommend it to anyone, not even to those who like a {bad} {genre}.
        All in all a {bad} film that I will never see again.
        Do yourself a favor and avoid it, you will hate it.
        In short, it is {bad}, and {lead} should look for a better script.
        A {bad} piece of work, and easily the worst of the year.
        My verdict is two out of ten, and I was close to giving less.
        It is full of {woe}, and I hope few people pay for it.
        This is why I walk out of the movies.
        """
    ),
}
