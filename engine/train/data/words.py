"""Word stock and random values for made-up facts. Train and check stocks share no key word.

A stock is chosen by `split`: words whose position in its list is 0 modulo 5 are for checking only.
"""
import re
import uuid

ADJ = """amber ancient arctic azure bamboo brass brave bright bronze calm canvas cedar cheerful clay clever cobalt copper
coral cotton crimson crooked crystal curious dusty eager early ebony elastic emerald faded fancy fearless floral
foggy forgotten frozen gentle gilded glass golden granite green grey hidden hollow honest humble icy indigo
iron ivory jade jolly keen large lavender lazy leather linen lively lonely loud lucky lunar magenta maple marble
mellow midnight misty modest mossy narrow navy nimble noble northern oak old olive orange painted pale paper
patient pearl plain polished porcelain proud purple quiet rapid red restless rough round royal ruby rusty saffron
salty sandy scarlet secret shiny short silent silver simple sleepy slender slow small smooth solar southern
spare spotted square steady steel stone stormy striped strong sturdy sunny swift tall tame teal tender thin
tidy timber tiny tropical turquoise upper velvet violet vivid warm wandering western white wild windy winter
wise wooden woollen yellow young zinc""".split()
NOUN = """anchor apron archive armchair attic axe badge bakery balcony ballroom banner barn barrel basket beacon bell
bench bicycle boat bookcase boiler bottle box bracelet bridge bronze-gate bucket cabin cabinet cable camera canal candle
canoe carpet cart castle cellar chapel chest chimney clock cloak closet coach coin compass cottage counter court
crane crate crown cupboard curtain desk dock door drawer drill drum engine factory fan farm fence ferry fiddle
file flag flute forge fountain furnace gallery garage garden gate generator glider globe greenhouse guitar hall hammer
hangar harbour harp hat helmet hotel hut inn jacket jar jetty kettle kiln kitchen kite ladder lamp lantern
laboratory library lift lighthouse locker locket loom machine mailbox manor map market medal mill mine mirror mortar
museum necklace office orchard organ oven paddle parcel passage pavilion pen pharmacy piano pier pipe plough pond portrait
press printer pump quarry radio railway reactor reservoir ribbon ring robot rocket rope safe saddle sail satchel
saucer scale school sculpture server shed shelf ship shop shutter signal sledge sofa spade staircase stable
station statue stove studio suitcase sundial sword table tank tavern telescope temple tent terminal theatre tower tractor
train tram tray trumpet trunk tunnel turbine umbrella van vase vault vessel vineyard violin wagon wallet wardrobe
warehouse watch wheel whistle windmill window workshop yacht""".split()
FIRST = """Ada Adam Agnes Ahmed Aisha Alan Albert Alice Amina Amir Amy Andrei Anita Anna Anton Ben Boris Bruno Carl Carla
Carmen Cecil Chen Clara Colin Cora Dana Daniel Daria David Deborah Dieter Dmitri Doris Edgar Edith Elena Eli Elias
Emil Emma Eric Esther Eva Farid Fatima Felix Fiona Frank Frieda George Gita Grace Greta Hana Hannah Hans Harold
Hassan Helen Henry Hugo Ida Igor Ingrid Irene Isaac Ivan Ivy Jack Jacob Jane Jasper Joan Jonas Jorge Judith Julia
Kamal Karen Karl Keiko Kevin Kofi Lars Laura Lena Leo Leon Li Lily Linda Lorenzo Lucy Luis Lydia Mabel Marco Maria
Marta Martin Max Maya Mei Mia Miguel Mira Mohan Nadia Naomi Nina Noah Nora Olaf Olga Oliver Omar Oscar Otto Pablo Pavel
Pedro Peter Petra Priya Ralph Ravi Rita Robert Rosa Ruth Sam Samir Sara Selma Simon Sofia Stefan Susan Tariq Theo
Thomas Tina Tomas Ursula Vera Victor Vikram Walter Wanda Wei Willa Yara Yusuf Zoe""".split()
LAST = """Abbott Adler Ahmad Almeida Andersen Archer Baker Banerjee Barnes Becker Bell Berg Bianchi Blake Bolt Borg Brandt
Brennan Brooks Bryant Burke Calder Carter Castro Chandra Chang Clarke Cole Conrad Costa Crane Cruz Dalton Dawson
Delgado Diaz Dixon Doyle Drake Duarte Dunn Eklund Ellis Engel Evans Farrell Fischer Fleming Flores Forbes Foster Fox
Franklin Frost Garcia Gibson Goldberg Gomez Grant Graves Gupta Haas Hale Hansen Harper Hart Hayes Herrera Hill Hoffman
Holm Horvath Hughes Hunt Ibrahim Ivanov Jansen Jensen Johansson Jordan Kapoor Kaur Keller Kelly Kim King Klein Knight
Kovacs Kowalski Kumar Lambert Lang Larsen Lee Lindgren Lopez Lund Marsh Martinez Mason Meyer Mills Moreau Morgan Moss
Mueller Nakamura Nash Nguyen Nielsen Novak Okafor Olsen Ortega Osei Owens Palmer Park Patel Pearson Perez Petrov
Porter Quinn Ramos Reed Reyes Rhodes Rivera Robinson Romano Rossi Ruiz Sanders Santos Sato Schmidt Shah Sharma Shaw
Silva Singh Sokolov Stone Sutton Suzuki Tanaka Taylor Thorne Torres Turner Vance Vargas Vogel Wagner Walsh Wang Ward
Weber Weiss West Winter Wolf Wong Wright Yamada Yilmaz Young Zhang Ziegler""".split()
SYL = """al an ar bar bel ber bor bran cal car cor dal dan del dor el en er fal fen gar gol hal har hel il in jor kal kel
kor lan lar len lin lor mar mel mir mor nal nar nel nor ol or pel per qua ran rel rin ros sal san sel sol
tal tan tel tor ul ur val van vel ver vin vor wes win yar zan zel""".split()
TAIL = "ia a burg ton ville ford mouth stad ham wick holm field port dale ne on is o um ak".split()
CITY = """Amsterdam Athens Auckland Bangkok Barcelona Belfast Berlin Bern Bogota Boston Brussels Budapest Cairo Calcutta
Cape Town Chicago Copenhagen Dakar Delhi Denver Dresden Dublin Edinburgh Florence Geneva Genoa Ghent Hamburg Hanoi Havana
Helsinki Istanbul Jakarta Kyoto Lagos Leeds Lima Lisbon London Lyon Madrid Manila Marseille Melbourne Milan Montreal
Moscow Munich Nairobi Naples Oslo Ottawa Paris Porto Prague Quito Riga Rome Rotterdam Seoul Seville Sofia Stockholm
Sydney Tokyo Toronto Tunis Turin Utrecht Vienna Warsaw Zagreb Zurich""".replace("Cape Town", "Capetown").split()
FRUIT = """apples apricots bananas blackberries blueberries cherries coconuts cranberries dates figs grapes guavas kiwis
lemons limes mangoes melons olives oranges papayas peaches pears pineapples plums quinces raspberries strawberries""".split()
COLOUR = """amber aquamarine beige black blue brown burgundy charcoal crimson cyan gold green grey indigo ivory
lavender lilac magenta maroon mauve mint navy ochre olive orange peach pink plum purple red rose rust salmon scarlet
silver tan teal turquoise vermilion violet white yellow""".split()
ANIMAL = """badger bear beaver bison camel cat cheetah cow crab crane deer dog dolphin donkey dove duck eagle
elephant falcon ferret fox frog giraffe goat goose hare hawk hedgehog heron horse jackal kangaroo lemur leopard lion
lizard llama lynx magpie mole monkey moose mouse newt otter owl ox panda panther parrot pelican penguin pig pony puffin
rabbit raccoon ram rat raven robin salmon seal shark sheep snail snake sparrow spider squirrel stork swan tiger toad
tortoise trout turkey turtle viper vulture walrus weasel whale wolf wombat yak zebra""".split()
MONTH = """January February March April May June July August September October November December""".split()
VERB = """eat a sandwich|sit by the river|walk along the old canal|feed the ducks|read the morning paper|watch the boats come in|
drink hot cider|climb the church tower|listen to the street band|buy fresh bread at the market|rent a small boat|
visit the glass gallery|take the cable car|count the lanterns|fly a paper kite|sketch the fountains|dance in the square|
look for fossils on the beach|play chess with strangers|ride the night train|taste the smoked cheese|swim in the cold lake|
plant a lemon tree|follow the red markers|ask the gardener for seeds|sleep under the pines|photograph the storks|
mend the fishing nets|join the evening choir|try the plum dumplings|polish the brass bells|cross the rope bridge""".replace("\n", "").split("|")
WHEN = """before breakfast|at sunset|on a rainy afternoon|in early spring|after the concert|when the fog lifts|on market day|
during the harvest|late at night|on the first warm day|at low tide|when nobody is looking""".replace("\n", "").split("|")
SMALL = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
eighteen nineteen twenty""".split()


ACT = """add balance beat bend blow boil borrow bow break brush build burn bury buy call catch chase choose clean clap collect cook copy count cover cut decorate dig draw drag dress drop dry empty
examine fill find fix fold follow gather give greet guard guess hang hear hide hold hum hunt imitate jump keep kick kiss knit knock lay learn lift light look lock make mark measure milk mix move nail
name obey offer open order pack paint pick plant play polish pour praise press print pull push race read remember repeat roast roll rub save search sell send sew shake sharpen shout sing sit skip
sleep smell sort spin spread stand steal stir study sweep tear tell test thank throw tie touch trade train trim turn unlock wait wake warn water wave wear weigh wind wipe wrap write""".split()


PREPOSITION = "of of in in on under behind beside above inside near against from with at between beyond opposite".split()
MARKED = "marked with|painted with|tied up with|wrapped in|covered by|hung with|made from|filled with|without|as wide as|next to|at the end of|at the foot of|to the left of|on top of".split("|")


def part(words, split):
    """The words of one split: every fifth is kept for checking."""
    return [w for i, w in enumerate(words) if (i % 5 == 0) == (split == "check")]


def an(text):
    return re.sub(r"(?<![A-Za-z])a (?=[aeio])", "an ", text)


class Stock:
    """Random keys and values of one split, drawn from `rng` (a random.Random).

    `vocabulary` = {"words", "names"} found in the prose: the training stock draws on it as
    well, so that keys are not confined to the lists above. The check stock never does.
    """

    def __init__(self, split, vocabulary=None):
        self.split = split
        self.lexicon = None  # lexicon.Lexicon, where the training stock may draw on it
        self.vocabulary = vocabulary if split == "train" else None
        self.adj, self.noun, self.first, self.last = (part(w, split) for w in (ADJ, NOUN, FIRST, LAST))
        self.syl, self.verb, self.when, self.animal = (part(w, split) for w in (SYL, VERB, WHEN, ANIMAL))

    def any_word(self, r):
        return r.choice(self.vocabulary["words"]) if self.vocabulary and r.random() < 0.75 else r.choice(r.choice((self.adj, self.noun)))

    def name(self, r):
        return r.choice(self.vocabulary["names"]) if self.vocabulary and r.random() < 0.7 else r.choice(self.first)

    # keys
    def thing(self, r):
        if self.vocabulary and r.random() < 0.4:
            return r.choice(("the {} {}", "a {} {}", "the {} of the {}", "the {}'s {}")).format(self.any_word(r), self.any_word(r))
        return f"the {r.choice(self.adj)} {r.choice(self.noun)}"

    def person(self, r):
        if self.vocabulary and r.random() < 0.4:
            return r.choice(("{} {}", "{} {}", "Captain {1}", "Dr {1}", "Mrs {1}", "Mr. {1}", "{} van {}", "Professor {1}", "Lady {}")).replace("{} {}", "{0} {1}").replace(
                "{} van {}", "{0} van {1}").replace("{}", "{0}").format(self.name(r), self.name(r))
        return f"{r.choice(self.first)} {r.choice(self.last)}"

    def creature_the(self, r):
        return "the " + self.creature(r)

    def weekday(self, r):
        return r.choice("Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split())

    def town(self, r):
        if self.vocabulary and r.random() < 0.25:
            return r.choice(self.vocabulary["names"])
        return "".join(r.choice(self.syl) for _ in range(r.choice((1, 2, 2)))).capitalize() + r.choice(TAIL)

    def project(self, r):
        w = r.choice((self.noun, self.animal, self.adj))
        return f"{r.choice(('Project', 'Operation', 'Plan', 'Mission', 'Contract'))} {r.choice(w).capitalize()}"

    def numbered(self, r):
        kind = r.choice("room locker bay shelf unit sensor ticket account cabin crate lot section gate server node".split())
        return f"{kind} {r.randint(1, 999)}" if r.random() < .7 else f"{kind} {r.choice('ABCDEFGHKLMNPRSTX')}{r.randint(1, 99)}"

    def company(self, r):
        return f"{r.choice(self.last)} {r.choice(('Ltd', 'and Sons', 'Brothers', 'Industries', 'Group', 'Institute', 'Foods', 'Motors'))}"

    def hyphen(self, r):
        if self.vocabulary and r.random() < 0.5:
            return f"{self.any_word(r)}-{self.any_word(r)}"
        return f"{r.choice(self.adj)}-{r.choice(self.noun)}"

    def key(self, r, kind=None):
        return getattr(self, kind or r.choice(("thing", "thing", "person", "person", "town", "project", "numbered", "company", "hyphen")))(r)

    # values
    def number(self, r):
        return str(r.randint(10 ** (d := r.choice((0, 1, 2, 3, 4, 5, 6, 6, 6, 7))), 10 ** (d + 1) - 1))

    def digits7(self, r):
        return str(r.randint(1000000, 9999999))

    def uuid(self, r):
        return str(uuid.UUID(int=r.getrandbits(128), version=4))

    def hexcode(self, r):
        return "".join(r.choice("0123456789abcdef") for _ in range(r.choice((6, 8, 12))))

    def code(self, r):
        a = "".join(r.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(r.randint(2, 4)))
        return r.choice((f"{a}-{r.randint(10, 9999)}", f"{a}{r.randint(10, 9999)}", f"{r.randint(10, 99)}-{a}-{r.randint(10, 99)}"))

    def word(self, r):
        if self.vocabulary and r.random() < 0.6:
            return self.any_word(r)
        return r.choice(r.choice((self.adj, self.noun, self.animal)))

    def colour(self, r):
        return r.choice(COLOUR)

    def creature(self, r):
        return f"{r.choice(self.adj)} {r.choice(self.animal)}"

    def city(self, r):
        return r.choice(CITY) if r.random() < .5 else self.town(r)

    def date(self, r):
        d, m, y = r.randint(1, 28), r.choice(MONTH), r.randint(1700, 2035)
        return r.choice((f"{d} {m} {y}", f"{m} {d}, {y}", f"{d} {m}", f"{m} {y}", f"{y}-{MONTH.index(m) + 1:02d}-{d:02d}"))

    def year(self, r):
        return str(r.randint(1500, 2040))

    def clock(self, r):
        return f"{r.randint(0, 23)}:{r.randint(0, 59):02d}" if r.random() < .6 else f"{r.randint(1, 12)} {r.choice(('am', 'pm'))}"

    def money(self, r):
        n = r.randint(1, 999999)
        return r.choice((f"${n:,}", f"{n} euros", f"£{n / 100:.2f}", f"${n / 100:.2f}", f"{n:,} dollars"))

    def measure(self, r):
        return f"{r.randint(2, 990)} {r.choice(('metres', 'miles', 'kg', 'litres', 'hours', 'minutes', 'days', 'km', 'feet', 'tonnes', 'pages', 'percent'))}"

    def version(self, r):
        return f"{r.randint(0, 20)}.{r.randint(0, 30)}" + (f".{r.randint(0, 40)}" if r.random() < .6 else "")

    def compound(self, r):
        """What a thing is called in two or three words: "flower pot", "old ferry house"."""
        word = r.choice(self.noun) if r.random() < 0.6 else self.any_word(r)
        lead = self.any_word(r) if r.random() < 0.6 else r.choice(self.noun)
        return r.choice(("{l} {w}", "{l} {w}", "{w}", "{a} {w}", "{a} {l} {w}")).format(l=lead, w=word, a=r.choice(self.adj))

    def further(self, r, n):
        """n further turns that a noun phrase goes on with: where a value ends, and not where it could end, is what they teach."""
        out = ""
        for _ in range(n):
            article = r.choice(("the", "the", "the", "a", "an old", "its", "the " + r.choice(("first", "second", "third", "fourth", "last", "upper", "left"))))
            out += f" {r.choice(PREPOSITION) if r.random() < 0.75 else r.choice(MARKED)} {article} {self.compound(r)}"
        return out

    def spot(self, r):
        """A place inside a place."""
        if self.split == "train" and r.random() < 0.6:
            return an(r.choice(("a ", "the ", "the ", "an empty ", "the third ", "the only ")) + self.compound(r) + self.further(r, r.choice((0, 1, 1, 1, 2, 2))))
        where = r.choice(("the {} of the {}", "a {} behind the {}", "a {} under the {}", "the {} {}", "a {} in the {}", "the {} beside the {}", "a {} {}", "the {ordinal} {} of the {}"))
        return where.replace("{ordinal}", r.choice(("second", "third", "upper", "lower", "left", "last"))).format(
            *(r.choice(self.noun) if r.random() < 0.5 else self.any_word(r) for _ in range(2)))

    def email(self, r):
        return f"{r.choice(self.first).lower()}.{r.choice(self.last).lower()}@{self.town(r).lower()}.{r.choice(('com', 'org', 'net'))}"

    def phrase(self, r):
        if self.split == "train" and r.random() < 0.4:  # an act that goes on: with what, where, when, how often
            s = f"{r.choice(ACT)} {r.choice(('the', 'the', 'a', 'an old', 'some', 'every', 'two'))} {self.compound(r)}" + self.further(r, r.choice((0, 1, 1, 2)))
            if r.random() < 0.4:
                s += " " + r.choice((r.choice(self.when), f"{r.choice(SMALL[2:])} times", f"for {r.choice(SMALL[2:])} days", f"before the {self.any_word(r)}", f"after every {self.any_word(r)}",
                                     f"like a {self.any_word(r)}", f"with {r.choice(self.adj)} {self.any_word(r)}"))
            return an(s)
        if self.vocabulary and r.random() < 0.2:
            return " ".join(self.any_word(r) for _ in range(r.randint(3, 9)))
        if self.split == "train" and r.random() < 0.45:  # one act, put together from its parts
            s = f"{r.choice(ACT)} {r.choice(('the', 'the', 'a', 'some', 'three', 'their'))} {r.choice((r.choice(self.adj) + ' ', ''))}{self.any_word(r)}"
            for _ in range(r.choice((0, 1, 1, 2))):
                s += f" {r.choice(('of', 'in', 'on', 'with', 'from', 'at', 'under', 'behind', 'through', 'to', 'for', 'around', 'beside'))} {r.choice(('the', 'the', 'a', 'an old'))} {self.any_word(r)}"
            return an(s)
        s = r.choice(self.verb)
        if r.random() < .7:
            s += " and " + r.choice(self.verb)
        if r.random() < .6:
            s += " " + r.choice(self.when)
        return s

    def count(self, r):
        return r.choice(SMALL[2:]) if r.random() < .4 else str(r.randint(2, 400))

    def fruit(self, r):
        a, b = r.sample(FRUIT, 2)
        return r.choice((a, f"{a} and {b}"))

    def file_name(self, r):
        n, a = r.choice(self.noun), r.choice(self.adj)
        return r.choice((f"{n}.md", f"{n}.txt", f"{a}-{n}.md", f"{n}_{r.randint(1, 99)}.txt", f"{a}_{n}.rst", f"{n}-{r.randint(1990, 2030)}.pdf",
                         f"{n}.html", f"{a} {n}".title(), f"{n.upper()}", f"{n.capitalize()}-{r.randint(1, 9)}.{r.randint(0, 9)}",
                         f"{a.capitalize()} {n}", f"report-{r.randint(1, 400)}.pdf", f"notes {r.randint(1, 31)} {r.choice(MONTH)}.txt",
                         f"{n}.c", f"{n}.docx", f"{a}{n}.log", f"memo_{r.randint(1, 999)}.txt", f"chapter-{r.randint(1, 40)}.md"))
