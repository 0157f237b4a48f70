package node

import (
	"errors"
	"reflect"
	"testing"

	"github.com/visavis/visavis/internal/relay"
)

// Whatever the relay refuses of a configuration is told as an error of a setting.
func TestTheRelaysErrorsHaveSettings(t *testing.T) {
	fields := reflect.TypeFor[relay.Config]()
	for field := range relaySettings {
		if _, ok := fields.FieldByName(field); !ok {
			t.Errorf("the relay has no field %s", field)
		}
	}
	settings := reflect.TypeFor[Relay]()
	for setting := range settings.Fields() {
		if setting.Type.Kind() != reflect.Int {
			continue
		}
		cfg := DefaultConfig()
		reflect.ValueOf(&cfg.Relay).Elem().FieldByIndex(setting.Index).SetInt(-1)
		wrong := (*ConfigError)(nil)
		if err := cfg.Validate(); !errors.As(err, &wrong) || wrong.Hint() == "" {
			t.Errorf("%s of -1: error %v, want one of a setting", setting.Name, err)
		}
	}
}
