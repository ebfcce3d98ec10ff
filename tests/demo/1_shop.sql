CREATE TABLE users (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email      text NOT NULL UNIQUE,
    first_name text NOT NULL,
    last_name  text NOT NULL
);

CREATE TABLE orders (
    number    text PRIMARY KEY,
    user_id   bigint NOT NULL REFERENCES users,
    total     numeric(10, 2) NOT NULL,
    placed_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE order_items (
    number   text REFERENCES orders,
    line     integer,
    sku      text NOT NULL,
    name     text NOT NULL,
    quantity integer NOT NULL,
    price    numeric(10, 2) NOT NULL,
    PRIMARY KEY (number, line)
);
