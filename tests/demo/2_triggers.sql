CREATE FUNCTION tell_klaviyo_of_user() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM klaviyo_upsert_profile(
        email       => NEW.email,
        external_id => NEW.id::text,
        first_name  => NEW.first_name,
        last_name   => NEW.last_name
    );
    RETURN NULL;
END $$;

CREATE FUNCTION tell_klaviyo_of_order() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM klaviyo_track_event(
        'Placed Order',
        external_id    => NEW.user_id::text,
        properties     => jsonb_build_object('number', NEW.number),
        value          => NEW.total,
        value_currency => 'EUR',
        event_time     => NEW.placed_at,
        unique_id      => NEW.number
    );
    RETURN NULL;
END $$;

CREATE TRIGGER klaviyo AFTER INSERT OR UPDATE ON users
    FOR EACH ROW EXECUTE FUNCTION tell_klaviyo_of_user();

CREATE TRIGGER klaviyo AFTER INSERT ON orders
    FOR EACH ROW EXECUTE FUNCTION tell_klaviyo_of_order();
