"""Words that people use for one another, to ask in other words than the text's."""
import re

GROUPS = """big large huge|small little tiny|begin start commence|end finish conclude|buy purchase|get obtain receive|help assist|show display|say state declare|tell inform|
ask inquire|answer reply|make create produce|build construct|fix mend|choose select pick|need require|want wish|use employ|allow permit|forbid prohibit|stop halt cease|
change alter modify|keep retain hold|give provide supply|send dispatch|take seize|find discover locate|look glance|see notice|hear listen|think believe|know understand|
house home dwelling|child kid|children kids|boy lad|girl lass|man fellow gentleman|woman lady|king ruler|friend companion|enemy foe|doctor physician|money cash|job work occupation|
road street way|car automobile|ship vessel boat|town city|country nation land|sea ocean|forest woods|hill mountain|stone rock|money funds|book volume|letter note message|
picture image|story tale|song tune|war conflict|fight battle|law rule statute|error mistake fault|problem difficulty issue|idea notion thought|reason cause|result outcome effect|
part portion section|piece bit fragment|kind type sort|way method manner|place spot location|time moment|year twelvemonth|old ancient aged|new recent modern|fast quick rapid swift|
slow sluggish|happy glad cheerful|sad unhappy sorrowful|angry furious cross|afraid scared frightened|brave courageous|clever smart intelligent|stupid foolish|rich wealthy|poor needy|
strange odd peculiar|beautiful lovely pretty|ugly hideous|hard difficult|easy simple|important significant|famous renowned well-known|near close|far distant|often frequently|
always constantly|never at-no-time|quickly rapidly|slowly gradually|suddenly abruptly|maybe perhaps|enough sufficient|whole entire|main chief principal|right correct|wrong incorrect|
function routine|argument parameter|returns gives yields|specifies states sets|describes explains|called named|contains includes holds|creates makes builds|removes deletes drops|
default standard|value quantity|object thing item|option setting switch|error failure|warning caution|version release|file document|copy duplicate|permission consent approval|
die perish|died perished|dead deceased|marry wed|married wed|born delivered|live reside dwell|lived resided dwelt|lives resides|leave depart|left departed|arrive come|arrived came|
return come-back|returned came-back|write compose pen|wrote composed penned|written composed|read study|teach instruct|taught instructed|learn find-out|speak talk|spoke talked|
walk stroll|walked strolled|run hurry rush|ran hurried rushed|eat consume|ate consumed|drink sip|sleep rest|wake rouse|laugh chuckle|laughed chuckled|cry weep|cried wept|
love adore|hate detest|like enjoy|liked enjoyed|win triumph|won triumphed|lose forfeit|kill slay|killed slew murdered|catch capture|caught captured|throw cast hurl|threw cast hurled|
hit strike|push shove|pull drag|carry bear|carried bore|open unlock|close shut|closed shut|found discovered|made created produced|gave handed|took seized|said stated remarked|
told informed|asked inquired|answered replied|began started|ended finished|bought purchased|built constructed|chose picked selected|needed required|wanted wished|used employed|
allowed permitted|changed altered|kept retained|sent dispatched|saw noticed|thought believed|knew understood|published issued released|founded established started|author writer|
leader head chief|company firm business|movie film picture|team side squad|game match|award prize|president head-of-state|maximum highest greatest|minimum lowest least|amount sum quantity""".replace("\n", "").split("|")
TABLE = {}
for _g in GROUPS:
    _words = [w.replace("-", " ") if w != "well-known" else w for w in _g.split()]
    for _w in _words:
        TABLE.setdefault(_w, [w for w in _words if w != _w])
WORD = re.compile(r"[a-z]+")


def reword(r, text, chance):
    """Each known word is replaced with the given chance."""
    return WORD.sub(lambda m: r.choice(TABLE[m.group()]) if m.group() in TABLE and r.random() < chance else m.group(), text)


def thin(r, text, chance):
    """Drops words at random, never all, never capitalised ones or numbers."""
    ws = text.split()
    kept = [w for i, w in enumerate(ws) if i == 0 or w[:1].isupper() or w[:1].isdigit() or r.random() > chance]
    return " ".join(kept) if len(kept) > 2 else text
