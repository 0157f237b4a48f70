package main

import (
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/visavis/visavis/internal/node"
	"github.com/visavis/visavis/internal/relay/feed"
)

// impossible is a text that is of the right kind and still no value of its setting.
type impossible struct{ error }

// set gives a field of the configuration a value of TOML, or one as text. unit is what a number stands for where the
// field is a duration.
func set(field, value any, unit time.Duration) (err error) {
	switch f := field.(type) {
	case *string:
		*f, err = text(value)
	case *bool:
		*f, err = boolean(value)
	case *int:
		var n int64
		n, err = number(value, strconv.IntSize)
		*f = int(n)
	case *uint16:
		*f, err = port(value)
	case *time.Duration:
		*f, err = duration(value, unit)
	case *slog.Level:
		*f, err = parsed(value, level)
	case *node.Address:
		*f, err = parsed(value, node.ParseAddress)
	case *netip.Addr:
		*f, err = parsed(value, address)
	case *[]netip.Prefix:
		*f, err = each(value, prefix)
	case *[]*url.URL:
		*f, err = each(value, origin)
	case *[]feed.URL:
		*f, err = each(value, feed.ParseURL)
	case *[]string:
		*f, err = each(value, func(text string) (string, error) { return text, nil })
	default:
		err = fmt.Errorf("a setting of type %T cannot be set", field) // a mistake in settings
	}
	return err
}

// shown is the value of a field as an operator would type it.
func shown(field any, unit time.Duration) string {
	switch f := field.(type) {
	case *time.Duration:
		return strconv.FormatInt(int64(*f/unit), 10)
	case *slog.Level:
		return strings.ToLower(f.String())
	case *netip.Addr:
		if f.IsValid() {
			return f.String()
		}
		return ""
	case *[]string:
		return strings.Join(*f, ",")
	case *string:
		return *f
	case *node.Address:
		return f.String()
	case *bool:
		return strconv.FormatBool(*f)
	case *int:
		return strconv.Itoa(*f)
	case *uint16:
		return strconv.Itoa(int(*f))
	}
	return "" // lists of other things are empty by default
}

func text(value any) (string, error) {
	if text, ok := value.(string); ok {
		return text, nil
	}
	return "", fmt.Errorf("%v is no text: put it in quotes", value)
}

// parsed is a value that is written as text.
func parsed[T any](value any, parse func(string) (T, error)) (T, error) {
	text, err := text(value)
	if err != nil {
		var none T
		return none, err
	}
	v, err := parse(text)
	if err != nil {
		err = impossible{err}
	}
	return v, err
}

// each is a list of values that are written as text.
func each[T any](value any, parse func(string) (T, error)) ([]T, error) {
	list, err := texts(value)
	if err != nil {
		return nil, err
	}
	all := make([]T, 0, len(list))
	for _, text := range list {
		v, err := parse(text)
		if err != nil {
			return nil, impossible{err}
		}
		all = append(all, v)
	}
	return all, nil
}

func boolean(value any) (bool, error) {
	b, ok := value.(bool)
	if text, isText := value.(string); isText {
		var err error
		b, err = strconv.ParseBool(text)
		ok = err == nil
	}
	if !ok {
		return false, fmt.Errorf("%q is neither true nor false", fmt.Sprint(value))
	}
	return b, nil
}

// number is a whole number of that many bits, with its sign.
func number(value any, bits int) (int64, error) {
	n, err := strconv.ParseInt(fmt.Sprint(value), 10, bits)
	if err != nil {
		return 0, fmt.Errorf("%q is no whole number", fmt.Sprint(value))
	}
	return n, nil
}

func port(value any) (uint16, error) {
	n, err := number(value, 17)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q is no port from 0 to 65535", fmt.Sprint(value))
	}
	return uint16(n), nil
}

// duration is a whole number of units.
func duration(value any, unit time.Duration) (time.Duration, error) {
	n, err := number(value, 64)
	if err != nil {
		return 0, err
	}
	if most := math.MaxInt64 / int64(unit); n > most || n < -most {
		return 0, fmt.Errorf("%d is more than %d", n, most)
	}
	return time.Duration(n) * unit, nil
}

func level(text string) (slog.Level, error) {
	for _, l := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		if text == strings.ToLower(l.String()) {
			return l, nil
		}
	}
	return 0, fmt.Errorf("%q is none of debug, info, warn, error", text)
}

// address is an IP address, or none.
func address(text string) (netip.Addr, error) {
	if text == "" {
		return netip.Addr{}, nil
	}
	ip, err := netip.ParseAddr(text)
	if err != nil {
		return ip, fmt.Errorf("%q is no IP address", text)
	}
	return ip, nil
}

func prefix(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, fmt.Errorf("%q is no address range", text)
	}
	return p, nil
}

// origin is a scheme and a host, in the form in which browsers tell it.
func origin(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil ||
		u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%q is no origin", text)
	}
	return &url.URL{Scheme: strings.ToLower(u.Scheme), Host: strings.ToLower(u.Host)}, nil
}

// texts is a list of TOML, or one with commas as text.
func texts(value any) ([]string, error) {
	list := []string{}
	switch v := value.(type) {
	case string:
		for text := range strings.SplitSeq(v, ",") {
			if text = strings.TrimSpace(text); text != "" {
				list = append(list, text)
			}
		}
		return list, nil
	case []any:
		for _, element := range v {
			text, ok := element.(string)
			if !ok {
				return nil, fmt.Errorf("%v in the list is no text: put it in quotes", element)
			}
			list = append(list, text)
		}
		return list, nil
	}
	return nil, fmt.Errorf("%v is no list", value)
}
