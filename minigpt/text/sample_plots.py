# ruff: noqa: E501 -- one sentence a line, however long.
"""The plots of the sample corpus's stories. The notation is that of `sample_tales`.

A plot names pools in the order in which they speak; `?` marks a pool that is left out half the time, and pools in
parentheses come in any order. A plot's own pools are written below it as `plot.pool`.
"""

from __future__ import annotations

PLOTS = {
    "walk": "opening weather? about? walk.start ( encounter encounter encounter? ) walk.meet talk talk? meal? ending",
    "lost": "opening? lost.start about? lost.search lost.search encounter? lost.ask talk? lost.found meal? ending",
    "birthday": "opening about? birthday.start birthday.think encounter? birthday.gift birthday.give talk? meal ending",
    "market": "opening market.start weather? ( market.stall market.stall encounter ) market.buy talk? meal? ending",
    "help": "opening about? help.trouble encounter? help.call talk help.work help.thanks meal? ending",
    "rain": "weather rain.inside about rain.knock talk talk? meal? rain.over ending",
    "cooking": "opening about? cooking.start cooking.work cooking.wrong talk? cooking.taste ending",
    "garden": "opening weather? garden.start garden.wait encounter? garden.wait talk? garden.grow meal? ending",
    "boat": "opening about? weather? boat.start ( boat.see boat.see encounter? ) talk boat.turn meal? ending",
    "evening": "evening.start about about? evening.quiet encounter? talk? evening.quiet ending",
    "snow": "opening about? weather snow.start ( snow.play snow.play encounter? ) talk snow.warm ending",
    "wind": "opening? weather wind.start wind.blow encounter? wind.chase wind.chase? wind.catch talk? ending",
    "letter": "opening? letter.start about? letter.read letter.read? encounter? letter.go talk meal? ending",
    "stray": "opening about stray.start lost.search encounter? stray.ask talk? stray.found ending",
    "night": "opening about? night.noise night.look night.look night.truth talk? ending",
    "event": "opening? event.start weather? encounter event.crowd event.crowd talk event.end ending",
    "self": "self.hello self.fact self.fact self.fact self.fact? self.fact? self.thing self.end",
}
# Plots that can only happen in some seasons; the others can happen in any but winter, where grass is dry enough.
SEASON_OF_PLOT = {"rain": "spring", "boat": "summer", "wind": "autumn", "snow": "winter", "garden": "spring"}
DAYS_OF_PLOT = {"market": "Saturday", "letter": "Monday", "event": "Tuesday Wednesday Thursday Friday"}
# Here the companion is first named in speech, where "his best friend Anna" would be out of place.
FORMAL_PLOTS = ("birthday", "cooking", "letter")

PLOT_POOLS = {
    "walk.start": """
        So <a> <walked> <way> {with|and took} <a.pet> the <a.species>, who {ate <a.peteats>|said <a.sound>} {all the way|from time to time}.
        <a.He> {took|packed} some <a.food> and <an thing> and <walked> <way>.
        "{Let us|We could} go to <place>," said <a>, and <a.pet> {said <a.sound>|came along|ran ahead}.
        <a> wanted to {see|visit} <b>, who lived <b.home>, and <walked> <way>.
        Nobody needed a <a.job> that day, so <a.he> <walked> <way> {with nothing in mind|to look for <an item>|to find <b>}.
        """,
    "walk.meet": """
        At <place> <a.he> met <b>, who had <an item.colour> <item> {in one hand|on <b.his> head|and looked <feeling>}.
        Then <b> came <way> and {wanted to know|asked} where the <item.colour> <item> {was|came from}.
        <a> found <b> {asleep|sitting|waiting} <spot.sit>, with <an item.colour> <item>.
        {Just then|Soon|After a while} <b> {called out|stopped|came by} and showed <a> <an item.colour> <item>.
        """,
    "lost.start": """
        {That day|That morning} <a> could not find <a.his> <item.colour> <item>{.| at all.}
        "Where is my <item.colour> <item>?" {asked|cried|said} <a>. {It had been there at breakfast.|Nobody knew.|It was not where it should be.|<a.Pet> said <a.sound>.}
        The <item.colour> <item> was gone, and <a> {felt sad|did not know what to do}.
        <a> {needed|wanted} the <item.colour> <item> to <a.hobby>, but it {was gone|was not there|had gone away}.
        """,
    "lost.search": """
        <a.He> looked <spot>, but {found|there was} only <an adjective> <thing>{.| and a very surprised <creature>.}
        <a.He> looked <spot> and <spot>. {Nothing!|There was nothing there.|No luck.|Only a spider said hello.}
        {Then|Next} <a.he> {went|ran} to <place> and looked <spot>, but {it was not there|there was only <an thing>}.
        "{Maybe|Perhaps} it is <spot>," {thought|said} <a>, but {it was not|there sat an old <creature>|there was only <an colour> <thing>}.
        """,
    "lost.ask": """
        So <a> asked <b>. "{When did you see it last|Did you look <spot>|Is it not on your head}?" {said|asked} <b>.
        <b> put down <b.his> {cup of <b.drink>|<thing>|bag of <b.food>} and helped to look.
        "Do not {cry|worry|be sad}," said <b>. "{Two can look better than one.|First we eat some <b.food>, and then we look.|I will ask <b.pet>.}"
        Luckily <b> came <way>, and <a> told <b.him> everything.
        """,
    "lost.found": """
        And there it was, <spot>! <b.Pet> the <b.species> had {taken it there|slept on it all day|found it first}.
        In the end <b> found the <item> <spot>. "{Of course|There it is|I knew it}!" {cried|laughed} <a>.
        It was <a.pet> who found it. "<a.Sound>," said the <a.species>, and there, <spot>, {was|lay} the <item>.
        The <item> had been <spot> {all the time|since <dayname>}, and <a> had to laugh.
        """,
    "birthday.start": """
        It was <b>'s birthday, and <a> {had no present|had forgotten the present|wanted to give <b.him> something {beautiful|to remember}}.
        "{Tomorrow|Today} is <b>'s birthday," {said <a>|<a> told <a.pet>}. "What can I give <b.him>?"
        <b> {was going to|would soon} be <number> years older than <b.his> <b.species>, and <a> {wanted to have|had to think of} a party.
        """,
    "birthday.think": """
        "<b>'s favourite colour is <b.colour>," thought <a>, "so it must be <an b.colour> <item>."
        <a.He> knew that <b> liked to <b.hobby>, but {how can one wrap that|that is not a present}?
        "{What about|Maybe} some <b.food>?" {asked <c>|said <c>}. "<b> likes nothing better."
        "<b> drinks <b.drink>, eats <b.food> and likes to <b.hobby>," {said|thought} <a>. "{That is a start|That helps}."
        """,
    "birthday.gift": """
        So <a> took an old <item>, painted it <b.colour> and {put it in a box|hid it <spot>}.
        <a> {worked|sat} until <number> o'clock and made <an b.colour> <item>.
        At the shop <a> found <an b.colour> <item> and paid <number> coins {for it|and a bag of <a.food>}.
        """,
    "birthday.give": """
        "{Happy birthday|Surprise}!" {called|cried} <a>. <b> opened the box and {laughed|jumped for joy|could not say a word}.
        "<an^b.colour> <item>!" {cried|said} <b>. "How did you know that I {like|love} <b.colour>?"
        <b> {was <feeling>|smiled} and {gave some cake to everyone|put the <item> next to the bed|showed it to <b.pet>}.
        """,
    "market.start": """
        On Saturday the market {opens|opened}, and <a> <walked> <way> with <an adjective> basket.
        It was Saturday, market day, and <a> {needed|wanted} <an item.colour> <item>.
        {Every Saturday|On Saturday} <a> {went to the market|<walked> to the market} with <number> coins {and <a.pet>|in <a.his> bag}.
        """,
    "market.stall": """
        <c> {sold|was selling} <number> <thing.many>, {all of them <colour>|and one was <colour>|and ate <c.food>}.
        <an^adjective> woman {sold|showed <a>} <an colour> <thing> that {could sing|smelled of soup|nobody wanted}.
        There were <flower>, <flower> and <number> <colour> <thing.many> {to buy|in a row|on one table}.
        "Fresh <flower>! {Only <number> coins!|Who wants some?|Come and look!}" called <c>.
        """,
    "market.buy": """
        <a> paid <number> coins for the <item.colour> <item> and {was <feeling>|put it in the basket}.
        At last <a> saw <an item.colour> <item>. "How much is it?" "<number^> coins," said <b>, "{or <number> for a friend|and a smile}."
        In the end <a> gave {<a.his> hat|a bag of <a.food>|<number> <flower>} for <an item.colour> <item>, and <b> {laughed|smiled|shook <a.his> hand}.
        """,
    "help.trouble": """
        {That day|In the morning} <b> came <way>. "My <item> is broken," said <b.he>, "and I {cannot <b.hobby>|need it today}."
        <b> had a problem: <an colour> <thing> was {stuck|sitting} <spot>, and {nobody could reach it|<b.pet> would not come down}.
        "Help!" {cried|called} <b>. "The <creature> has {taken|hidden} my <item.colour> <item>!"
        <b>'s <item.colour> <item> was too heavy for one, and <b> {sat|stood} <spot.sit> and {did not know what to do|looked sad}.
        """,
    "help.call": """
        "I am {a <a.job>|only a <a.job>}," said <a>, "but I {can try|have <an adjective> <thing>|have an idea}."
        <a> {thought|walked up and down} for <number> minutes and shook <a.his> head.
        "{Wait here|Give me a moment}," said <a>, and {ran home|<walked> <way>} to get <an thing> and <an thing>.
        "First {a cup of <a.drink>|some <a.food>}," said <a>, "and then {we think|to work}."
        """,
    "help.work": """
        They {pushed|pulled} {once, twice, three times|with both hands|until <c> came to help}, and {at last|suddenly} it {moved|worked}.
        With <an thing>, {some string|a little luck} and <number> nails they {mended it|made it as good as new}.
        Even <a.pet> the <a.species> helped{.| and said <a.sound>.| until it was dark.}
        It took {all day|<number> hours|until <meal>}, and <a> {got wet|lost a boot|sang the whole time}.
        """,
    "help.thanks": """
        "Thank you, <a>!" said <b>. "{Take some <a.food>|Have a cup of <a.drink>|Stay for dinner}. {I know you like it.|You must be hungry.|Please!}"
        <b> {was <feeling>|smiled} and gave <a> <an colour> <thing>.
        "{What would I do without you|How can I thank you}?" asked <b>. "{Just smile|With some <a.food>|Tell me a story}," said <a>.
        """,
    "rain.inside": """
        <a> could not go out to <a.hobby>, so <a.he> sat <spot.sit.in> {with <a.pet>|and drank <a.drink>|and ate <a.food>}.
        <a> {looked out of the window|sat by the window} and counted {the drops|<number> umbrellas|<number> wet birds}.
        Water came through the roof, and <a> put <an thing> under it. {Drip, drop, drip.|It was soon full.|<a.Pet> drank from it.}
        """,
    "rain.knock": """
        {Then|Suddenly} there was a knock at the door, and {there stood|in came} <b> with <an item.colour> <item>{.| on <b.his> head.| and wet boots.}
        "{May I come in|Is anybody there}?" called <b>, who was {wet from head to foot|holding a wet <item>}.
        At <number> o'clock <b> came {to see <a>|to dry <b.his> coat} and brought {a bag of <b.food>|<an item.colour> <item>}.
        """,
    "rain.over": """
        {At last|In the end|By evening} the rain {stopped|was over}, and <a> and <b> went out to {jump over|look at} the {puddles|snails}.
        The {clouds|rain} went <way>, and {over|behind} <place> there was a rainbow.
        """,
    "cooking.start": """
        <a> wanted to make <b.food> for <b>, because <b> {likes|loves} to eat <b.food>.
        "Today I {will cook|will make} something for <b>," said <a>, "and it will be <b.food>, {of course|what else}."
        <b> was {ill|tired|coming to dinner}, and <a> {knew|remembered} that nothing helps <b.him> like <b.food>.
        """,
    "cooking.work": """
        <a.He> put <an adjective> pot on the fire, {added|looked for} salt and {sang|waited} for <number> minutes.
        The book said <number> {spoons|eggs}, but <a> {took <number>|could only find <number>|lost count}.
        {First|Before that} <a.he> asked <c>, who knew everything about <c.food> and {nothing|little} about <b.food>.
        """,
    "cooking.wrong": """
        {But|Then} <a.pet> {knocked over the pot|ran off with the spoon|sat down in the flour}, and {everything was <colour>|<a> had to begin again}.
        {But|Oh no!} {the salt was sugar|the fire went out|there was <an thing> in the pot}, and <a> {laughed|smiled|said nothing}.
        {But|And then} smoke came out of the {oven|pot}. "{Quick|Oh dear}!" {cried|called} <a>, and <c> {ran in|came} with a bucket of water.
        """,
    "cooking.taste": """
        <b> tried it {slowly|and thought for a moment}. "{Strange|It is not bad|Well}," said <b>, "{but good|may I have more|it tastes like <an thing>}."
        In the end <b> ate {all of it|<number> plates}, and {<b.pet> got the rest|<a> ate <a.food>}.
        "{This is|That was} the best <b.food> {of my life|since <dayname>}!" {said|cried} <b>, and <a> {was|felt} <feeling>.
        """,
    "garden.start": """
        <a> found <number> seeds {in <an adjective> <item>|<spot>} and {put them in the ground|planted them} {behind the house|next to the gate}.
        "{What will it be|What is it}?" asked <b>, as <a> planted <an adjective> seed in <an item.colour> <item>.
        <a> dug <an adjective> hole with <an item> and {planted <flower>|put in some seeds}.
        """,
    "garden.wait": """
        {Every|Each} <meal> <a> {gave it water|came to look|sat next to it} and {drank <a.drink>|told it a story|sang to it}.
        <number^> days {went by|passed}, and {nothing happened|there was only <an creature>|a small green leaf came up}.
        <a.Pet> wanted to {eat|sleep on} it, but <a> said, "{No|Stop}! {Here is some <a.peteats>.|You sleep <a.bed>.|That is not for you.}"
        <b> said that one must {wait|talk to it|leave it alone}, {as every <b.job> knows|and ate some <b.food>}.
        """,
    "garden.grow": """
        {Then one morning|At last|After <number> weeks} there were <number> {big|bright|small} <flower>, {all|and all} of them {for <b>|<colour>|in a row}.
        It grew and grew until it was {higher than the house|as big as <an thing>}.
        It was {a pumpkin|a sunflower}! "{I knew it|How beautiful|It is bigger than <b.pet>}," said <b>.
        """,
    "boat.start": """
        <a> and <b> {took|found} <an item.colour> boat and {rowed|went} down the Wren {with a bag of <a.food>|and took <an thing> along}.
        "{Let us|Shall we} row down the river," said <a>, and <b> {brought|packed} <b.food> and <an thing>.
        The Wren was {slow|quiet} that day, and <a> {sat|lay} in <an item.colour> boat with <b>.
        """,
    "boat.see": """
        They {saw|passed} <an creature> on the bank, <number> ducks and {a very old|one} <thing> in the water.
        {Under|Near} the old bridge it was cool and dark, and {somebody|<c>} {called|sang} "hello" <number> times.
        <c> {stood|sat} on the bank, ate <c.food> and {waved.|called, "Where are you going?"}
        A fish {jumped|looked} out of the water, {took a look at} <a> and {was gone|went away}.
        """,
    "boat.turn": """
        {Suddenly|Then} there was water in the boat! <b> {took|used} <an thing> and <a> {used|took} <a.his> hat{.|, and they laughed until they were dry again.}
        {Then|But then} <a.pet> jumped in, and {the boat turned round <number> times|everyone got wet|they had to swim}.
        They {forgot|lost} the time, and {the stars came out|it was dark|the moon was up} before they {turned round|came home}.
        """,
    "evening.start": """
        It was evening, and <a> sat <spot.sit.in> with <an item.colour> <item> and a cup of <a.drink>.
        {When|After} the work was done, <a> sat down <spot.sit.in> and {drank <a.drink>|ate <a.food>}.
        The sun went down behind <place>, and {one by one|slowly} the lights came on in Willowbrook. <a> {was tired|was still awake}.
        """,
    "evening.quiet": """
        <a.Pet> the <a.species> {already slept|lay|was} <a.bed> and {dreamed of|thought about} <a.peteats>.
        {Far away|Somewhere} <c> {liked|tried} to <c.hobby>, and {one could hear it|the whole village heard it}.
        <a> thought about {the day|<b>|tomorrow|the <item.colour> <item>} and {smiled|was <feeling>|could not help laughing}.
        There was a {knock|sound} at the {door|window}. It was {only <an creature>|<b> with some <b.food>|only the wind|<b.pet>, who said <b.sound>}.
        <number^> stars {stood|came out} over <place>, and <a> {made a wish|counted them twice|gave each one a name}.
        """,
    "snow.start": """
        <a> opened the door, {put on|looked for} <number> {coats|socks} and went out with <b> to build a {man|horse|house} out of snow.
        "{Snow|Look, snow}!" {cried|called} <a>, and ran out {without boots|like the wind} to build a {man|horse|house} out of snow. {<b> helped.|<b> came too.}
        <a> and <b> wanted to build a {house|horse|man} out of snow.
        """,
    "snow.play": """
        They gave it <an colour> <thing> for a {hat|nose} and {called|named} it <c.name>, {because it looked like|after} the <c.job>.
        <b> {threw|made} a snowball that {hit <an adjective> <thing>|was as big as <an thing>|flew over <place>}.
        They found tracks in the snow, <number> in a row, and at the end of them {sat <an creature>|was <c> with <an thing>}.
        They went <way> on <an adjective> <thing> and stopped {in the snow|in front of <c>}.
        """,
    "snow.warm": """
        {Then|When they were cold} they went in and had {<a.drink> for <a> and <b.drink> for <b>|<a.food>, <b.food> and a big fire}.
        "{My nose is <colour>|I cannot feel my feet}," said <b>, "{let us go in|I need some <b.drink>|but that was fun}."
        """,
    "wind.start": """
        <a> {was out|stood} {on the hill|in the meadow|on the bridge} with <an item.colour> <item> and <b>.
        "{Hold on to|Look after} your <item>," said <b>, but <a> {did not hear it|only laughed}.
        """,
    "wind.blow": """
        {Suddenly|Whoosh!} the wind took <a>'s <item.colour> <item> and {carried|blew} it <way>.
        Up and away {went|flew} the <item>, over <place>, {higher than|past} <number> {birds|kites|clouds}.
        """,
    "wind.chase": """
        <a> ran <way>, {jumped over|fell over|ran round} <an thing> and {called <a.pet>|did not stop}.
        "{Stop it|Catch it|There it goes}!" {cried|called} <a>. <c> {jumped|looked up|tried}, but {it was too high|had <c.food> in both hands}.
        It {landed on|touched} <place> for a moment, {turned round <number> times|looked about} and flew on.
        """,
    "wind.catch": """
        At last it {came down|fell} <spot>, where {<b> caught it|<an creature> was very surprised|<b.pet> sat on it}.
        {In the end|Then} <b> {caught|got} it with <an thing>. "{Is this yours|Here you are|Good evening}," said <b>.
        """,
    "letter.start": """
        It was Monday, and on Monday the letters come. There was {one|only one} for <a>, in <an item.colour> envelope{.|!|, and it smelled of <b.food>.}
        {On|One} Monday a letter came {for <a>|to <a>}. "{Who can it be from|For me}?" {asked|said} <a>.
        """,
    "letter.read": """
        "Dear <a>," it said, "{come and see me|I miss you|how are you}. I have <an adjective> <thing> and {some <a.food>|<a.drink>} for you. Your <b>."
        "{My <b.species> is well and eats <b.peteats>|I <b.hobby> every <meal>|I found your <item>}," wrote <b>.
        "{Do not tell anyone|Please help me}," it said, "but {look|I have hidden <an thing>} <spot>. Your friend <b>."
        """,
    "letter.go": """
        So <a> put {the letter|some <b.food>} in <a.his> <adjective> bag and <walked> <way> to the house of <b>.
        <a> {read it twice|read it to <a.pet>} and <walked> <way> at once. <b> {was already at the door|stood at the gate|was waiting <spot.sit>}.
        """,
    "stray.start": """
        {One|That} {morning|evening} <a.pet> the <a.species> was {gone|not there}. {There was nobody|Only an old <creature> was} <a.bed>.
        "Where is <a.pet>?" asked <a>. {Nobody said <a.sound>.|The <a.peteats> had not been touched.|It was much too quiet.}
        """,
    "stray.ask": """
        "Have you seen <an a.petcolour> <a.species>?" asked <a>. "{No|Not since <dayname>}," said <b>, "but I {heard <a.sound>|heard something} near <place>."
        <b^> {came|ran} with a bag of <a.peteats>. "Every <a.species> will come for that," said <b>.
        <a> called "<a.pet>!" <number> times, and <b> {called too|helped}. {Nothing.|Only a bird answered.}
        """,
    "stray.found": """
        "<a.Sound>!" said somebody {behind|near} <place>. There {sat|stood} <a.pet> and {ate <a.peteats>|was not sorry at all}.
        They found <a.pet> <spot>, {fast asleep|next to <b.pet>|with <an thing>}, and <a> {laughed|jumped for joy}.
        <a.Pet> had been {at <b>'s house|with <b.pet>} all day, and {they had become friends|had eaten all the <b.peteats>}.
        """,
    "night.noise": """
        In the middle of the night there was a noise, and <a> {woke up|sat up in bed}. "{Who is there|What was that}?"
        {Crash|Tap, tap, tap}! Something was {moving|walking} <spot>.
        """,
    "night.look": """
        <a.He> took <an thing> {in one hand|for safety} and {looked|went to look} <spot>. {Nobody there.|Nothing moved.}
        "Is that {you, <c>|a ghost}?" asked <a>. {There was no answer.|"<b.Sound>," said somebody.|A door closed.}
        The {stairs|floor|door} made a {long|funny} sound, and <a> {dropped the <item>|thought of <a.food>}.
        """,
    "night.truth": """
        It was {only|nobody but} <b.pet>, <b>'s <b.species>, who was {hungry and wanted <b.peteats>|carrying <an item.colour> <item>}.
        And there was <a.pet> the <a.species>, {eating <a.peteats> in the dark|with <an thing> on one foot}. "<a.Sound>," said <a.pet>.
        It was <b>, who {wanted to <b.hobby>|was looking for some <b.food>} and had {lost the key|taken the wrong door}.
        """,
    "event.start": """
        On <day> <event>, and {everyone|half the village} was there. <a> {came late|came first|brought <an item>}.
        "Today is <day>," said <a>, "{and you know what that means|so let us go}." On <day> <event>.
        """,
    "event.crowd": """
        <c> sat <spot.sit> {with a cup of <c.drink>|and ate <c.food>|next to <c.pet>}.
        There was <an adjective> <thing> on every {table|chair}, and the {children|old people} {sang|laughed|danced}.
        <b^> {came|stood} with <an item.colour> <item> and {asked|wanted} to sit next to <a>.
        Someone {dropped|brought} <an thing>, and <number> people {laughed|clapped|said <a.sound>}.
        """,
    "event.end": """
        {In the end|At the end} everyone {clapped|sang}, and <b> {danced with <c>|fell asleep|wanted to <b.hobby>}.
        "{Next <day>|In a week} we {come|will come} again," said <b> <softly>.
        """,
    "self.hello": """
        I eat <a.food> every <meal>. {I am <a>|My name is <a>}, and I am a <a.job> in Willowbrook.
        {Hello!|Good day!|Good morning!} {I am <a>|My name is <a>}, {and I live <a.home>|and I am a <a.job>|the <a.job>}.
        I am <a> the <a.job>. {Every|Each} <meal> I {put on my <colour> boots|drink <a.drink>|say hello to <a.pet>|eat <a.food>}.
        I live <a.home> {with a <a.species> called <a.pet>|in Willowbrook|and I am never alone}. {I am <a>|My name is <a>}.
        I eat <a.food> {when I am happy|when it rains|with <an adjective> spoon|for breakfast and sometimes for dinner}. I am <a>.
        """,
    "self.fact": """
        I {like|love} to <a.hobby> {in the <time>|on <day>|when nobody is looking}.
        My favourite colour is <a.colour>, {and my <thing> is <a.colour> too|so I painted my <thing>}.
        My best friend is <a.friend>, {and we laugh about everything|who never forgets my birthday}.
        My <a.species> <a.pet> eats <a.peteats> and sleeps <a.bed>, {and I would not change it|like a king}.
        I drink <a.drink> {every <meal>|by the window} and {eat <a.food>|think of nothing}.
        I have a <a.petcolour> <a.species> called <a.pet>, who says <a.sound> {at <number> o'clock|to everyone}.
        {On <day>|Every week} I {visit|see} <b>, who {likes to <b.hobby>|eats <b.food>|lives <b.home>}.
        I eat <a.food>, {and <a.friend> says that is too much|and nobody can stop me|<number> plates if I can}.
        """,
    "self.thing": """
        Once I found <an item.colour> <item> <spot>, and {I still have it|nobody knew whose it was|<a.pet> slept in it}.
        {Yesterday|Last week} I saw <an creature> at <place>; it <doing>.
        {Last night|This morning} I dreamed of <an colour> <thing> that {could sing|ate <flower>|said <a.sound>}.
        """,
    "self.end": """
        {Come and see me|Visit me} <when>, and {we will eat <a.food>|bring <an adjective> <thing>|I will tell you a story}.
        And that is {all|me}. {Now you know <a>.|Who are you?|What do you eat?|I must go, the <a.species> is hungry.}
        If you {walk|come} <way>, {knock at my door|say hello to <a.pet>|look for <an item.colour> <item> at the window}.
        """,
}
