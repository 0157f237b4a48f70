package account

import (
	"strings"
	"testing"

	"github.com/visavis/visavis/protocol"
)

func TestNamesThatCanBeShown(t *testing.T) {
	for what, name := range map[string]string{
		"Chinese":                        "李雷",
		"Latin with an accent":           "José",
		"Persian, ZWNJ in a word":        "می\u200cخواهم",
		"Hindi, ZWNJ after a virama":     "क्\u200cष",
		"Malayalam, ZWJ ends the word":   "മോഹന\u0d4d\u200d",
		"Sinhala, ZWJ after a virama":    "ශ\u0dca\u200dරී",
		"Vietnamese, two accents":        "Nguyễn",
		"Arabic with vowel signs":        "مُحَمَّد",
		"Thai":                           "สมชาย",
		"Korean":                         "김민준",
		"Japanese, variation of a kanji": "葛\U000e0100城",
		"Mongolian with a selector":      "ᠭ\u180bᠠ",
		"an emoji of several":            "Ann 👩\u200d🚀",
		"with a skin tone":               "👩🏽\u200d🚀",
		"a selector before the joiner":   "🏳\ufe0f\u200d🌈",
		"a selector at the end":          "Ann ❤\ufe0f",
		"a keycap":                       "Ann 1\ufe0f\u20e3",
		"flag of Germany":                "🇩🇪",
		"flag of England":                "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
		"an emoji of Unicode 16":         "Ann \U0001fae9",
		"the longest":                    strings.Repeat("x", protocol.MaxName),
		"the longest, in what is seen":   strings.Repeat("👩🏽\u200d🚀", protocol.MaxName),
		"the longest, with accents":      strings.Repeat("o\u0323\u0302\u0301", protocol.MaxName), // ộ has one more than NFC knows
	} {
		if got, err := cleanName(name); err != nil {
			t.Errorf("%s: %q: %v", what, name, err)
		} else if again, err := cleanName(got); err != nil || again != got {
			t.Errorf("%s: %q is cleaned to %q, and that to %q, %v", what, name, got, again, err)
		}
	}
}

func TestNamesThatCannotBeShown(t *testing.T) {
	for what, name := range map[string]string{
		"nothing":                       "",
		"white space":                   "  \t\u3000",
		"a Hangul filler":               "\u3164",
		"a halfwidth Hangul filler":     "\uffa0",
		"a Hangul filler within":        "An\u115fn",
		"an empty Braille pattern":      "\u2800",
		"a joiner alone":                "\u200d",
		"a selector alone":              "\ufe0f",
		"a combining grapheme joiner":   "An\u034fn",
		"a joiner between Latin":        "An\u200dn",
		"a non-joiner between Latin":    "An\u200cn",
		"a non-joiner before a letter":  "\u200cمی",
		"a non-joiner after a letter":   "می\u200c",
		"two non-joiners":               "می\u200c\u200cخ",
		"a selector after a letter":     "Ann\ufe0f",
		"a selector after a digit":      "Ann4\ufe0f",
		"a selector after a selector":   "❤\ufe0f\ufe0f",
		"an ideograph's after a letter": "Ann\U000e0100",
		"a joiner after an emoji":       "👩\u200d",
		"a joiner before an emoji":      "Ann\u200d🚀",
		"tags after no flag":            "Ann\U000e0067\U000e0062\U000e0065\U000e007f",
		"tags without an end":           "🏴\U000e0067\U000e0062\U000e0065",
		"tags for more than a code":     "🏴" + strings.Repeat("\U000e0061", 7) + "\U000e007f",
		"an end without tags":           "🏴\U000e007f",
		"a zero-width space":            "\u200b",
		"a soft hyphen":                 "An\u00adn",
		"a word joiner":                 "An\u2060n",
		"a right-to-left override":      "evil\u202etxt",
		"a right-to-left mark":          "Ann\u200f",
		"an isolate":                    "\u2066Ann\u2069",
		"a byte order mark":             "\ufeffAnn",
		"a Mongolian vowel separator":   "An\u180en",
		"a control character":           "a\x00b",
		"a private character":           "\ue000",
		"an unassigned character":       "\u0378",
		"a stand-in for an object":      "Ann\ufffc",
		"bytes that are no text":        "\xff",
		"an accent alone":               "\u0301",
		"an accent after a space":       "Ann \u0301",
		"five accents on a letter":      "q\u0323\u0323\u0323\u0323\u0323",
		"one too long":                  strings.Repeat("x", protocol.MaxName+1),
		"one too long, in emoji":        strings.Repeat("🚀", protocol.MaxName+1),
	} {
		if got, err := cleanName(name); err == nil {
			t.Errorf("%s: %q is taken as %q", what, name, got)
		}
	}
}

// Whoever sees one of these names takes it for the first.
func TestNamesThatLookTheSame(t *testing.T) {
	for _, same := range [][]string{
		{"Ann", "ann", "ANN", "Ａnn", "Ⓐnn", "\u0410nn", "\u0430nn", "\u0391nn", "𝐀nn", " Ann "},
		{"Alice", "AIice", "A1ice", "A|ice"},
		{"Bob", "\u0412ob", "B\u043eb", "BOB", "B0b"},
		{"é", "e\u0301", "\u00c9"},
		{"Weiß", "Weiss", "WEISS"},
		{"می\u200cخواهم", "میخواهم"},
		{"Mam", "Marn"},
		{"paypal", "\u0440\u0430\u0443\u0440\u0430l"},
		{"Ann ❤\ufe0f", "Ann ❤"},
	} {
		first := nameKeys(mustClean(t, same[0]))
		for _, name := range same[1:] {
			if keys := nameKeys(mustClean(t, name)); keys[0] != first[0] && keys[1] != first[1] {
				t.Errorf("%q (%q) is not the same as %q (%q)", name, keys, same[0], first)
			}
		}
	}
	for _, differ := range [][]string{
		{"Ann", "Anna"},
		{"Ian", "Lan"},
		{"Eila", "Ella"},
		{"Ann Lee", "AnnLee"},
		{"李雷", "李蕾"},
		{"José", "Jose"},
		{"🇩🇪", "🇫🇷"},
		{"Mia", "Mila"},
		{"Ann 2", "Ann 3"},
	} {
		a, b := nameKeys(mustClean(t, differ[0])), nameKeys(mustClean(t, differ[1]))
		if a[0] == b[0] || a[1] == b[1] {
			t.Errorf("%q and %q are the same: %q, %q", differ[0], differ[1], a, b)
		}
	}
}

func mustClean(t *testing.T, name string) string {
	t.Helper()
	clean, err := cleanName(name)
	if err != nil {
		t.Fatalf("%q: %v", name, err)
	}
	return clean
}

func TestALookalikeOfWhoIsHereIsTaken(t *testing.T) {
	g := newGuests(t, newFakeLogins())
	alice, token, err := g.Enter(t.Context(), "Alice", "", now)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"AIice", "\u0410lice", "ALICE"} {
		if _, _, err := g.Enter(t.Context(), name, "", now); code(err) != protocol.CodeNameTaken {
			t.Errorf("%q: %v", name, err)
		}
	}
	if again, _, err := g.Enter(t.Context(), "AIice", token, now); err != nil || again.ID != alice.ID {
		t.Errorf("her own look-alike: %+v, %v", again, err)
	}
	for range 2 {
		g.Leave(alice.ID)
	}
	if len(g.byName) != 0 {
		t.Errorf("names that are held when nobody is here: %v", g.byName)
	}
}

func FuzzNames(f *testing.F) {
	for _, seed := range []string{"Ann", "می\u200cخواهم", "👩🏽\u200d🚀", "An\u034fn", "🇩🇪", "e\u0301"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		clean, err := cleanName(name)
		if err != nil {
			return
		}
		if again, err := cleanName(clean); err != nil || again != clean {
			t.Fatalf("%q is cleaned to %q, and that to %q, %v", name, clean, again, err)
		}
		if nameKeys(clean) != nameKeys(mustClean(t, "  "+name+"\t")) {
			t.Fatalf("%q has other keys with white space round it", name)
		}
	})
}
