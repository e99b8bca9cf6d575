# ruff: noqa: E501 -- one sentence a line, however long.
"""The sentences of the sample corpus's stories: templates in pools, and plots that string pools together.

`{this|that}` chooses, `<name>` inserts a word (of the story's people and things, else of WORDS), `<an name>` puts
"a" or "an" before it. Hero, companion and passer-by are a, b and c: `<a>` is the hero's name, `<a.he>` the pronoun,
`<a.food>` what the hero eats, and so on. No sentence may contradict the tables of `sample_world`.
"""

from __future__ import annotations

WORDS = {
    "adjective": "old|new|little|shiny|round|funny|beautiful|heavy",
    "feeling": "happy|glad|proud|cheerful|very happy|quite happy|as happy as a king",
    "spot": "under the bed|behind the door|in the tall grass|on top of the cupboard|in an old boot|under the table|"
    "beside the well|in a hollow tree|between two stones|under a pile of leaves|inside a teapot|"
    "on the roof|next to the gate|under the stairs",
    "creature": "hedgehog|fox|robin|squirrel|blackbird|hare|deer|snail|beetle|owl|badger",
    "doing": "was eating a nut|was sitting on a stone|was looking for its breakfast|was talking to itself|"
    "was asleep under a bush|was watching the clouds|was washing its face|was carrying a leaf|"
    "was in a hurry|was in no hurry at all",
    "time": "morning|afternoon|day|evening",
    "meal": "morning|day|evening|afternoon|week",
    "number": "two|three|four|five|six|seven|nine|twelve",
    "softly": "quietly|slowly|softly|happily|loudly|in a low voice|with a smile|with a laugh",
    "walked": "walked|went|ran|hurried|wandered",
    "said": "said|answered|whispered|called|laughed",
    "place": "the river|the old bridge|the mill|the school|the meadow|the orchard|the hill|the clock tower|the pond|"
    "the inn|the shop|the edge of the forest|the bakery|the lake|the farm",
    "way": "down the lane|over the bridge|across the meadow|along the river|through the village|past the mill|"
    "up the hill|past the clock tower|round the pond",
    "thing": "key|hat|scarf|kite|book|lamp|basket|bell|umbrella|button|spoon|ball|map|ribbon|drum|apron|clock|bag|"
    "mirror|whistle|boot|teapot|hammer|envelope|coat|box",
    "colour": "red|blue|green|yellow|white|black|brown|orange|purple|pink|grey",
    "thing.many": "keys|hats|kites|books|lamps|bells|buttons|spoons|drums|clocks|bags|boots|teapots",
    "spot.sit": "under a tree|on the grass|on the steps|by the fire|on a wall|at the table|on an old bench",
    "spot.sit.in": "by the fire|at the window|at the kitchen table|on the bed|in a big chair|on the floor",
    "softly.rain": "softly|loudly|all day|all night|without stopping",
    "dayname": "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday",
    "when": "any time|on <dayname>|in the <time>|soon|when it rains|before <number> o'clock",
    "flower": "roses|sunflowers|beans|peas|pumpkins|carrots",
}

# Pools that any plot may use.
POOLS = {
    "opening": """
        Once upon a time {there was|there lived|in the village of Willowbrook there lived} a <a.job> {called|named} <a>.
        Once upon a time, <a> the <a.job> {wanted|dreamed of} <an item.colour> <item>.
        Once upon a time <a>, who lived <a.home>, {had a very good idea|could not sleep|had nothing to do}.
        {One|One fine|One quiet|One busy} {morning|afternoon|day} <a> the <a.job> {put on <a.his>|looked for <a.his>|took <a.his>} <colour> {hat|coat|boots|scarf|apron}.
        In the village of Willowbrook, {everyone knew|people often talked about|they still tell stories about} <a> the <a.job>.
        Have you heard {the story of|about|what happened to} <a> and the <item.colour> <item>?
        This is {the story|a little story|a story} {of|about} <a>, {who was a <a.job>|who lived <a.home>|who liked to <a.hobby>|who had a <a.species> called <a.pet>}.
        <a> {was a <a.job> and lived|lived} <a.home> {with a <a.species> called <a.pet>|with <an adjective> <thing> and a <a.species>}.
        {It was early|It was late|It was a fine day} in <season>, and <a> {felt|was} <feeling>.
        {One|One fine} {morning|day} <a> woke up {before the sun|very early|very late|with a good idea} and {opened the window|looked for <a.his> boots|thought of <b>|made a cup of tea}.
        Not long ago a <a.job> {called|named} <a> {lived|sat|was singing} <a.home>.
        {On <day>, when <event>,|It was <day>, the day when <event>, and} <a> {had time for a walk|was still in bed|was <feeling>|wanted to see <place>}.
        """,
    "about": """
        <a> {lived|had a small house} <a.home>, {and|where} the door was <colour> and the kitchen {was always warm|smelled of <a.food>}.
        <a.He> {was a <a.job>, and a good one|was a good <a.job>|worked as a <a.job> and never complained}.
        {More than anything|Most of all|On quiet days} <a> liked to <a.hobby>.
        <a.His> favourite colour was <a.colour>, so {even the door|the chair|the teapot|even the bed} was <a.colour>.
        {Every|Each} <meal> <a> {ate|had|wanted} <a.food> {and drank <a.drink>|and was happy|with a big spoon|and asked for more}.
        <a> had a <a.species> called <a.pet>, who was <a.petcolour> and {slept|liked to sleep} <a.bed>.
        <a.His> best friend was <a.friend>, {and they told each other everything|and the two laughed a lot|who lived not far away}.
        {People said|Everyone said|The children said} that nobody {ate|loved} <a.food> as {much|happily|often} as <a>.
        The <a.species>, <a.pet>, was <a.petcolour> and {said <a.sound> <number> times a day|ate <a.peteats> all day|belonged to <a>}.
        """,
    "encounter": """
        {On the way|By the path|Near the bridge|Beside the lane} <an creature> <doing>.
        <an^creature> {looked at <a>|stopped and looked up|came closer}, and then {it|the little animal} {went on its way|hid behind a tree|sat down again|ran off}.
        <a> counted <number> {birds|clouds|sheep|snails|stones|ducks} and {lost count|began again|smiled|thought that was a good number}.
        There was <an adjective> <colour> <thing> {standing|waiting} <spot>, and nobody knew why.
        <c> {waved from a window|was walking <way>|came by with a bag of <c.food>|sat on a bench and drank <c.drink>}.
        <c> was there too, and {tried|wanted|was ready} to <c.hobby>.
        "{Good morning|Hello|Good day}, <a>!" {said|called} <c>, who {was carrying|was looking for|had found} <an colour> <thing>.
        The <c.species>, <c.pet>, {ran past|looked over the wall|came to say hello}. "<c.Sound>," said <c.pet>.
        {Somewhere|Far away|Close by} a bell rang <number> times, {and the birds flew up|but it was only the clock|and a dog answered}.
        <a> {stopped|waited a moment} at <place> {to rest|to look around|to listen} and {saw|heard|met} <an creature>.
        The path {passed|came to} <place>, where {someone|<c>|an old man} was {painting|mending} <an thing>.
        The path went <way>, and then <way>.
        A cloud that looked like <an thing> {hung|stood} over <place>.
        """,
    "talk": """
        "I eat <a.food> every <meal>," said <a>{.| with a smile.|, and it was true.}
        "I eat <b.food> every <meal>," said <b>. "{And you|What do you eat|What about you}?" "<a.Food>," {said|answered} <a>.
        "I {love|like} <b.food>," said <b>, "{but I like you more|but not before breakfast|and I always have|and so does my mother}."
        "I live <b.home>," said <b>. "{Come and see me|Come in any time|You can see it from here|It is warm there}."
        "My favourite colour is <b.colour>," said <b>, "{because it makes me smile|like <an thing> I once had|and yours is <a.colour>}."
        "I am only a <b.job>," {said|answered} <b>, "but I know {a lot about|how to mend|how to paint} <thing.many>."
        "What would you like to do?" asked <b>. "I like to <a.hobby>," said <a> <softly>.
        "When I am sad, I <b.hobby>," said <b>. {"And then I am happy again."|"You should try it."|"It always helps."}
        "Have you seen <b.pet>?" asked <b>. "My <b.species> is <b.petcolour> and {eats|loves} <b.peteats>."
        "<b.Sound>," said <b.pet> the <b.species>, {which was not much help|and nobody could say no to that|as if that explained everything|and that was that}.
        "{Do you know|Can you guess|Tell me}," asked <b> <softly>, "{what is in my bag|how many stars there are|why snails are slow}?"
        "You are {a good friend|very kind|a clever <a.job>|the best <a.job> I know}," said <b> <softly>.
        "{I have|There is} <an adjective> <thing> at home," said <b>, "and it is {<colour>|for you|older than the bridge|full of <b.food>}."
        """,
    "meal": """
        They {sat down|sat} <spot.sit> and shared what they had: <a.food> for <a> and <b.food> for <b>.
        <a> ate <a.food>, <b> ate <b.food>, and {the birds got the rest|nobody said a word|both were happy}.
        <b> {drank|had} <b.drink> and <a> {drank|had} <a.drink>, {as they always did|and they talked for a long time|and the sun went down}.
        {At home|In the kitchen|At the inn} <a> {had|found} some <a.food> and {ate|did not stop eating} {all of it|until <number> o'clock|with both hands}.
        {First|Before anything else} they gave <a.pet> the <a.species> {some <a.peteats>|<a.peteats> to eat}, and then {they ate too|it was time for <a.food>}.
        "{Are you hungry|Would you like something|Is there anything to eat}?" asked <a>, and <b> {took out|opened a bag of|had brought} <b.food>.
        """,
    "ending": """
        {That night|That evening|When the moon came up}, <a> slept {very well|like a stone|with a smile}, and <a.pet> slept <a.bed>.
        And from that day on, <a> {kept the <item.colour> <item> next to the bed|never lost the <item> again|always had <an item.colour> <item> for luck}.
        {So|And so} <a> went home{.| and ate <a.food>.| and drank <a.drink>.| and went to bed.| with the <item.colour> <item>.}
        It was {a good day|the best day of the week|a day to remember}, and <a> {told <b> so|told <a.pet> all about it|never forgot it}.
        {From then on|After that|Ever since}, <a> and <b> {meet every <meal>|go there every week|laugh whenever they see <an thing>}.
        "{Tomorrow|Next week}," said <a>, "{we will do it again|I will stay in bed|I will <a.hobby>|I will eat <a.food> all day}."
        And {if you walk|if you go} <way>, you can {still hear <a> laugh|sometimes meet <a> there|still see the place}.
        <b> {laughed|smiled|waved} and {walked|went} <way>, and <a> {was|felt} <feeling>.
        The {moon|first star} came up over <place>, and {all was quiet|Willowbrook fell asleep|even <b.pet> was quiet}.
        And that is {the end of the story|why <a> always says hello to <an creature>|how <a> and <b> spent the day|all I know about it}.
        """,
    "spring": """
        {It was spring, and the rain fell|The spring rain fell|It rained} <softly.rain> on {the roofs|the lane|the old bridge|<place>}.
        It was spring, and {every leaf|the grass|every hat in the village} was wet.
        """,
    "summer": """
        It was summer, and the sun shone on {the roofs|the meadow|the lake|<place>}.
        The summer sun was {warm|high|bright}, and {the bees were busy|even the ducks were lazy|the grass was dry}.
        """,
    "autumn": """
        It was autumn, and the wind blew {the leaves|hats|washing} <way>.
        The autumn wind {blew|sang|whistled} <softly.rain> {round the houses|in the trees|over <place>}.
        """,
    "winter": """
        It was winter, and the snow {lay|was deep} on {the roofs|the lane|the old bridge|<place>}.
        It snowed, {as it does in winter|as it had all week}, and {the lane|the river|the village} was {quiet|white}.
        """,
}
