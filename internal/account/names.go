package account

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/visavis/visavis/protocol"
)

//go:generate go run maketables.go -confusables confusables.txt -emoji emoji-data.txt

// lookalike is a character and the prototype that stands for it in a skeleton.
type lookalike struct {
	from rune
	to   string
}

// maxMarks bounds the accents on one letter (UTS 39 §5.4): more of them cover the
// lines above and below.
const maxMarks = 4

// Why a name is refused. The sentences are for the person who typed it.
var (
	errNameBlank = errors.New("the name has no character that can be seen; type at least one")
	errNameLong  = fmt.Errorf("the name is longer than %d characters; choose a shorter one", protocol.MaxName)
	errNameText  = errors.New("the name is not valid UTF-8 text; type it again")
	errNameMark  = errors.New("the name begins a word with an accent, or has more than 4 on one letter; leave them out")
)

// errNameUnseen refuses a character that cannot be seen where it stands.
func errNameUnseen(r rune) error {
	return fmt.Errorf("the name has a character that cannot be seen (%U); leave it out", r)
}

// cleanName is a name as it is shown: in Unicode normalization form C, with one
// space for each run of white space. The error says why it cannot be shown.
//
// A character that cannot be seen is refused, because two names that differ only
// by it look the same. It is allowed where a script or an emoji is written with it.
func cleanName(name string) (string, error) {
	if !utf8.ValidString(name) {
		return "", errNameText
	}
	name = strings.Join(strings.FieldsFunc(norm.NFC.String(name), isBlank), " ")
	text := []rune(name)
	seen, marks, begun := 0, 0, false // characters, accents on the last one, inside a word
	for i, r := range text {
		switch {
		case r == ' ':
			marks, begun = 0, false
		case isInvisible(r):
			if !mayBeInvisible(text, i) {
				return "", errNameUnseen(r)
			}
		case unicode.Is(unicode.M, r):
			if !unicode.Is(unicode.Mc, r) { // Mc takes a place of its own
				marks++
			}
			if !begun || marks > maxMarks {
				return "", errNameMark
			}
		case !unicode.IsPrint(r) && !unicode.Is(pictographs, r): // emoji may be newer than package unicode
			return "", errNameUnseen(r)
		default:
			marks, begun = 0, true
			if !continuesEmoji(text, i) {
				seen++
			}
		}
	}
	switch {
	case seen == 0:
		return "", errNameBlank
	case seen > protocol.MaxName:
		return "", errNameLong
	}
	return name, nil
}

// isBlank reports whether a character separates words. The empty Braille pattern
// is the space of Braille.
func isBlank(r rune) bool { return unicode.IsSpace(r) || r == '\u2800' }

const (
	zwnj = '\u200c' // keeps letters apart
	zwj  = '\u200d' // joins letters, and the parts of an emoji

	blackFlag      = '\U0001f3f4'
	cancelTag      = '\U000e007f'
	keycap         = '\u20e3'
	emojiSelector  = '\ufe0f'
	textSelector   = '\ufe0e'
	firstSkinTone  = '\U0001f3fb'
	lastSkinTone   = '\U0001f3ff'
	firstIndicator = '\U0001f1e6' // regional indicators are flags in pairs
	lastIndicator  = '\U0001f1ff'
)

// blankSymbols are drawn as nothing, although Unicode does not call them ignorable.
var blankSymbols = []rune{
	'\ufffc',     // stands for an object that is not there
	'\U00016fe4', // a filler of Khitan
	'\U0001d159', // a note without a head
}

// isInvisible reports whether a character is drawn as nothing by itself: default
// ignorable ones (UAX 44), other format characters, and blank symbols.
func isInvisible(r rune) bool {
	return unicode.In(r, unicode.Cf, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) ||
		slices.Contains(blankSymbols, r)
}

// cursive are the scripts whose letters join, and where a joiner changes their
// form without a virama before it (UAX 31 §2.3, rule A1).
var cursive = []*unicode.RangeTable{
	unicode.Adlam, unicode.Arabic, unicode.Hanifi_Rohingya, unicode.Mandaic, unicode.Manichaean, unicode.Mongolian,
	unicode.Nko, unicode.Phags_Pa, unicode.Psalter_Pahlavi, unicode.Sogdian, unicode.Syriac,
}

// mayBeInvisible reports whether the invisible character at i is one that the
// text around it is written with.
func mayBeInvisible(text []rune, i int) bool {
	var before, after rune
	if i > 0 {
		before = text[i-1]
	}
	if i+1 < len(text) {
		after = text[i+1]
	}
	switch r := text[i]; {
	case r == zwnj || r == zwj:
		return isVirama(before) || // UAX 31, rules A2 and B
			unicode.In(before, cursive...) && unicode.In(after, cursive...) ||
			r == zwj && endsEmoji(text[:i]) && unicode.Is(pictographs, after)
	case r == emojiSelector && strings.ContainsRune("0123456789#*", before):
		return after == keycap
	case r == emojiSelector || r == textSelector:
		return unicode.Is(pictographs, before)
	case r >= '\ufe00' && r <= '\ufe02' || r >= '\U000e0100' && r <= '\U000e01ef':
		return unicode.Is(unicode.Ideographic, before) // the form of an ideograph in a family's name
	case r >= '\u180b' && r <= '\u180f': // of a letter of Mongolian
		return unicode.Is(unicode.Mongolian, before)
	case isTag(r) || r == cancelTag:
		return isFlag(text, i)
	}
	return false
}

// isVirama reports whether r takes the vowel from the letter before it.
func isVirama(r rune) bool { return norm.NFC.PropertiesString(string(r)).CCC() == 9 }

// endsEmoji reports whether the text ends with an emoji that another can be joined to.
func endsEmoji(text []rune) bool {
	n := len(text)
	if n > 0 && (text[n-1] == emojiSelector || isSkinTone(text[n-1])) {
		n--
	}
	return n > 0 && unicode.Is(pictographs, text[n-1])
}

// continuesEmoji reports whether the character at i is one picture with those before it.
func continuesEmoji(text []rune, i int) bool {
	if i == 0 {
		return false
	}
	if isIndicator(text[i]) {
		first := i
		for first > 0 && isIndicator(text[first-1]) {
			first--
		}
		return (i-first)%2 == 1
	}
	return isSkinTone(text[i]) && unicode.Is(pictographs, text[i-1]) ||
		text[i-1] == zwj && unicode.Is(pictographs, text[i])
}

func isSkinTone(r rune) bool  { return r >= firstSkinTone && r <= lastSkinTone }
func isIndicator(r rune) bool { return r >= firstIndicator && r <= lastIndicator }

// isTag reports whether r is a tag for a digit or a small letter.
func isTag(r rune) bool {
	return r >= '\U000e0030' && r <= '\U000e0039' || r >= '\U000e0061' && r <= '\U000e007a'
}

// isFlag reports whether the tag at i belongs to the flag of a part of a country:
// a black flag, the tags of its code, and the tag that ends it (UTS 51, ED-14a).
func isFlag(text []rune, i int) bool {
	first, end := i, i
	for first > 0 && isTag(text[first-1]) {
		first--
	}
	for end < len(text) && isTag(text[end]) {
		end++
	}
	// ISO 3166-2: two letters and up to three more, or up to four digits.
	return first > 0 && text[first-1] == blackFlag && end-first >= 3 && end-first <= 6 &&
		end < len(text) && text[end] == cancelTag
}

// nameKeys are what names are compared by: two names are the same if any key is.
//
//   - The first ignores case, compatibility forms and look-alikes: "Ann", "ann",
//     "Ａnn" and "аnn" with a Cyrillic а.
//   - The second is the skeleton of UTS 39 §4, which has to see the case: "Alice"
//     looks like "AIice" with a capital I, but not like "aiice".
func nameKeys(name string) [2]string {
	fold := cases.Fold()
	letters := fold.String(norm.NFKC.String(name))
	return [2]string{"letters " + fold.String(skeleton(letters)), "look " + skeleton(name)}
}

// skeleton is the same for two texts that look the same (UTS 39 §4, skeleton, for
// texts of one direction).
func skeleton(text string) string {
	var out strings.Builder
	for _, r := range norm.NFD.String(text) {
		if isInvisible(r) {
			continue
		}
		i, found := slices.BinarySearchFunc(confusables[:], r, func(l lookalike, r rune) int { return cmp.Compare(l.from, r) })
		if found {
			out.WriteString(confusables[i].to)
		} else {
			out.WriteRune(r)
		}
	}
	return norm.NFD.String(out.String())
}
