"""What the cards are about: well-known facts, written down by us. Nothing here was looked up in a data set."""

from __future__ import annotations

CONTINENTS = ("Africa", "Asia", "Europe", "North America", "South America", "Oceania")

CAPITALS = {
    "Africa": """Algeria Algiers; Angola Luanda; Botswana Gaborone; Burkina Faso=Ouagadougou; Cameroon Yaounde; Chad N'Djamena;
        Egypt Cairo; Eritrea Asmara; Ethiopia Addis Ababa; Gabon Libreville; Ghana Accra; Guinea Conakry; Kenya Nairobi;
        Liberia Monrovia; Libya Tripoli; Madagascar Antananarivo; Malawi Lilongwe; Mali Bamako; Mauritania Nouakchott;
        Morocco Rabat; Mozambique Maputo; Namibia Windhoek; Niger Niamey; Nigeria Abuja; Rwanda Kigali; Senegal Dakar;
        Sierra Leone=Freetown; Somalia Mogadishu; Sudan Khartoum; Tanzania Dodoma; Togo Lome; Tunisia Tunis; Uganda Kampala;
        Zambia Lusaka; Zimbabwe Harare""",
    "Asia": """Afghanistan Kabul; Bahrain Manama; Bangladesh Dhaka; Bhutan Thimphu; Cambodia=Phnom Penh; China Beijing; India=New Delhi;
        Indonesia Jakarta; Iran Tehran; Iraq Baghdad; Israel Jerusalem; Japan Tokyo; Jordan Amman; Kuwait=Kuwait City;
        Laos Vientiane; Lebanon Beirut; Malaysia=Kuala Lumpur; Maldives Male; Mongolia Ulaanbaatar; Nepal Kathmandu; Oman Muscat;
        Pakistan Islamabad; Philippines Manila; Qatar Doha; Saudi Arabia=Riyadh; South Korea=Seoul; North Korea=Pyongyang;
        Syria Damascus; Taiwan Taipei; Tajikistan Dushanbe; Thailand Bangkok; Turkmenistan Ashgabat; Uzbekistan Tashkent;
        Vietnam Hanoi; Yemen Sana'a; Kyrgyzstan Bishkek""",
    "Europe": """Albania Tirana; Austria Vienna; Belarus Minsk; Belgium Brussels; Bulgaria Sofia; Croatia Zagreb; Czech Republic=Prague;
        Denmark Copenhagen; Estonia Tallinn; Finland Helsinki; France Paris; Germany Berlin; Greece Athens; Hungary Budapest;
        Iceland Reykjavik; Ireland Dublin; Italy Rome; Latvia Riga; Lithuania Vilnius; Malta Valletta; Moldova Chisinau;
        Netherlands Amsterdam; Norway Oslo; Poland Warsaw; Portugal Lisbon; Romania Bucharest; Serbia Belgrade; Slovakia Bratislava;
        Slovenia Ljubljana; Spain Madrid; Sweden Stockholm; Switzerland Bern; Ukraine Kyiv; United Kingdom=London""",
    "North America": """Bahamas Nassau; Barbados Bridgetown; Belize Belmopan; Canada Ottawa; Costa Rica=San Jose; Cuba Havana;
        Dominican Republic=Santo Domingo; El Salvador=San Salvador; Guatemala=Guatemala City; Haiti Port-au-Prince;
        Honduras Tegucigalpa; Jamaica Kingston; Mexico=Mexico City; Nicaragua Managua; Panama=Panama City;
        United States=Washington, D.C.""",
    "South America": """Argentina Buenos Aires; Brazil Brasilia; Chile Santiago; Colombia Bogota; Ecuador Quito; Guyana Georgetown;
        Paraguay Asuncion; Peru Lima; Suriname Paramaribo; Uruguay Montevideo; Venezuela Caracas""",
    "Oceania": """Australia Canberra; Fiji Suva; New Zealand=Wellington; Papua New Guinea=Port Moresby; Samoa Apia; Tonga Nuku'alofa;
        Vanuatu=Port Vila""",
}
"""Countries with their capitals. Words are parted at the first space, or at `=` where the country has one itself."""

CITIES = {
    "Africa": {
        "Egypt": "Alexandria, Luxor, Aswan", "Morocco": "Casablanca, Marrakesh, Tangier", "Kenya": "Mombasa, Kisumu",
        "Nigeria": "Lagos, Kano, Ibadan", "Tanzania": "Dar es Salaam, Arusha", "Ghana": "Kumasi",
        "South Africa": "Johannesburg, Durban, Cape Town, Port Elizabeth, Soweto", "Ethiopia": "Gondar", "Mali": "Timbuktu",
        "Algeria": "Oran", "Libya": "Benghazi", "Zimbabwe": "Bulawayo", "Sudan": "Omdurman", "Tunisia": "Carthage",
    },
    "Asia": {
        "Japan": "Osaka, Kyoto, Nagoya, Hiroshima, Sapporo, Yokohama, Kobe, Nagasaki, Fukuoka",
        "China": "Shanghai, Guangzhou, Shenzhen, Wuhan, Chengdu, Nanjing, Hangzhou, Harbin, Xi'an, Tianjin",
        "India": "Mumbai, Kolkata, Chennai, Bangalore, Hyderabad, Jaipur, Varanasi, Pune, Agra, Lucknow",
        "Pakistan": "Karachi, Lahore, Peshawar", "Turkey": "Istanbul, Izmir, Antalya", "Iran": "Isfahan, Shiraz, Tabriz, Mashhad",
        "Iraq": "Basra, Mosul", "Syria": "Aleppo, Homs", "Saudi Arabia": "Mecca, Medina, Jeddah", "Israel": "Haifa, Tel Aviv",
        "South Korea": "Busan, Incheon, Daegu", "Vietnam": "Ho Chi Minh City, Da Nang, Hue", "Thailand": "Chiang Mai, Phuket",
        "Indonesia": "Surabaya, Bandung, Yogyakarta", "Philippines": "Cebu, Davao", "Uzbekistan": "Samarkand, Bukhara",
        "Bangladesh": "Chittagong", "Myanmar": "Mandalay", "Afghanistan": "Kandahar, Herat", "Kazakhstan": "Almaty",
    },
    "Europe": {
        "France": "Lyon, Marseille, Bordeaux, Toulouse, Nice, Strasbourg, Lille, Nantes, Grenoble, Cannes",
        "Germany": "Munich, Hamburg, Frankfurt, Cologne, Dresden, Leipzig, Stuttgart, Nuremberg, Bremen, Heidelberg, Hanover",
        "Italy": "Milan, Venice, Florence, Naples, Turin, Bologna, Palermo, Pisa, Genoa, Verona, Siena",
        "Spain": "Barcelona, Seville, Valencia, Granada, Bilbao, Malaga, Toledo, Zaragoza, Salamanca",
        "United Kingdom": "Manchester, Liverpool, Birmingham, Leeds, Bristol, Glasgow, Edinburgh, Oxford, Cambridge, Cardiff, Belfast",
        "Russia": "Saint Petersburg, Vladivostok, Novosibirsk, Kazan, Volgograd", "Poland": "Krakow, Gdansk, Lodz, Wroclaw, Poznan",
        "Netherlands": "Rotterdam, Utrecht, Eindhoven, The Hague, Delft", "Belgium": "Antwerp, Bruges, Ghent, Liege",
        "Switzerland": "Zurich, Geneva, Basel, Lausanne", "Austria": "Salzburg, Graz, Innsbruck, Linz",
        "Portugal": "Porto, Coimbra, Faro", "Greece": "Thessaloniki, Corinth, Sparta", "Sweden": "Gothenburg, Malmo, Uppsala",
        "Norway": "Bergen, Trondheim, Stavanger", "Denmark": "Aarhus, Odense", "Finland": "Tampere, Turku",
        "Ireland": "Cork, Galway, Limerick", "Ukraine": "Odessa, Lviv, Kharkiv, Donetsk", "Croatia": "Dubrovnik, Split",
        "Czech Republic": "Brno, Ostrava", "Romania": "Timisoara, Cluj-Napoca", "Bulgaria": "Plovdiv, Varna",
    },
    "North America": {
        "United States": """Chicago, Boston, Seattle, Houston, Miami, Denver, Dallas, Atlanta, Detroit, Philadelphia, San Francisco,
            New Orleans, Phoenix, Las Vegas, Baltimore, Minneapolis, Cleveland, Pittsburgh, Honolulu, San Diego, Milwaukee, Memphis""",
        "Canada": "Toronto, Vancouver, Montreal, Calgary, Edmonton, Winnipeg, Halifax, Quebec City",
        "Mexico": "Guadalajara, Monterrey, Tijuana, Cancun, Puebla, Acapulco", "Cuba": "Guantanamo", "Jamaica": "Montego Bay",
    },
    "South America": {
        "Brazil": "Sao Paulo, Rio de Janeiro, Salvador, Recife, Manaus, Porto Alegre, Curitiba, Fortaleza",
        "Argentina": "Rosario, Mendoza, Cordoba, Ushuaia", "Colombia": "Medellin, Cali, Cartagena, Barranquilla",
        "Peru": "Cusco, Arequipa, Trujillo", "Chile": "Valparaiso, Concepcion, Antofagasta", "Ecuador": "Guayaquil, Cuenca",
        "Venezuela": "Maracaibo", "Bolivia": "Cochabamba, Potosi",
    },
    "Oceania": {
        "Australia": "Sydney, Melbourne, Brisbane, Perth, Adelaide, Darwin, Hobart, Cairns, Newcastle",
        "New Zealand": "Auckland, Christchurch, Dunedin, Queenstown, Hamilton",
    },
}

ANIMALS = {
    "mammal": """lion, tiger, elephant, giraffe, zebra, horse, cow, pig, sheep, goat, dog, cat, wolf, fox, bear, rabbit, hare, mouse,
        rat, squirrel, beaver, otter, badger, hedgehog, mole, bat, whale, dolphin, seal, walrus, kangaroo, koala, camel, llama,
        donkey, deer, moose, reindeer, bison, buffalo, rhinoceros, hippopotamus, gorilla, chimpanzee, orangutan, leopard, cheetah,
        jaguar, lynx, hyena, raccoon, skunk, porcupine, sloth, armadillo, panda, yak, antelope, gazelle, hamster""",
    "bird": """eagle, hawk, falcon, owl, sparrow, robin, crow, raven, pigeon, dove, parrot, penguin, ostrich, emu, flamingo, pelican,
        stork, heron, crane, swan, goose, duck, turkey, chicken, peacock, pheasant, quail, woodpecker, kingfisher, hummingbird,
        swallow, gull, albatross, puffin, vulture, canary, finch, magpie, cuckoo, toucan, nightingale, starling""",
    "fish": """salmon, trout, tuna, cod, herring, mackerel, sardine, carp, pike, perch, catfish, eel, shark, halibut, flounder, bass,
        anchovy, haddock, sturgeon, piranha, goldfish, swordfish, barracuda, tilapia""",
    "reptile": """snake, cobra, python, viper, rattlesnake, lizard, gecko, iguana, chameleon, crocodile, alligator, turtle, tortoise,
        boa, anaconda""",
    "amphibian": "frog, toad, salamander, newt, axolotl, bullfrog",
    "insect": """ant, bee, wasp, butterfly, moth, beetle, ladybug, fly, mosquito, grasshopper, cricket, dragonfly, cockroach, termite,
        flea, locust, cicada, firefly, hornet, earwig, mayfly, aphid, praying mantis, bumblebee""",
}

PEOPLE = {
    ("literature", "United Kingdom"): "William Shakespeare, Charles Dickens, Jane Austen, George Orwell, Agatha Christie, Virginia Woolf",
    ("literature", "United States"): "Mark Twain, Ernest Hemingway, Edgar Allan Poe, Emily Dickinson, John Steinbeck, Herman Melville",
    ("literature", "Russia"): "Leo Tolstoy, Fyodor Dostoevsky, Anton Chekhov, Alexander Pushkin",
    ("literature", "France"): "Victor Hugo, Gustave Flaubert, Marcel Proust, Jules Verne, Alexandre Dumas",
    ("literature", "Germany"): "Johann Wolfgang von Goethe, Thomas Mann, Hermann Hesse", ("literature", "Ireland"): "James Joyce",
    ("literature", "Italy"): "Dante Alighieri, Giovanni Boccaccio, Umberto Eco", ("literature", "Spain"): "Miguel de Cervantes",
    ("literature", "Colombia"): "Gabriel Garcia Marquez", ("literature", "Chile"): "Pablo Neruda",
    ("literature", "Japan"): "Haruki Murakami", ("literature", "India"): "Rabindranath Tagore",
    ("literature", "Denmark"): "Hans Christian Andersen", ("literature", "Norway"): "Henrik Ibsen",
    ("painting", "Netherlands"): "Vincent van Gogh, Rembrandt, Johannes Vermeer, Piet Mondrian",
    ("painting", "Spain"): "Pablo Picasso, Salvador Dali, Francisco Goya, Diego Velazquez, Joan Miro",
    ("painting", "France"): "Claude Monet, Paul Cezanne, Henri Matisse, Edgar Degas, Paul Gauguin, Edouard Manet",
    ("painting", "Italy"): "Raphael, Sandro Botticelli, Caravaggio, Titian", ("painting", "Norway"): "Edvard Munch",
    ("painting", "United States"): "Jackson Pollock, Andy Warhol, Georgia O'Keeffe, Edward Hopper",
    ("painting", "Mexico"): "Frida Kahlo, Diego Rivera", ("painting", "Austria"): "Gustav Klimt, Egon Schiele",
    ("painting", "Japan"): "Katsushika Hokusai", ("painting", "Germany"): "Albrecht Durer",
    ("music", "Germany"): "Johann Sebastian Bach, Ludwig van Beethoven, Johannes Brahms, Richard Wagner, Robert Schumann",
    ("music", "Austria"): "Wolfgang Amadeus Mozart, Franz Schubert, Joseph Haydn, Gustav Mahler",
    ("music", "Italy"): "Antonio Vivaldi, Giuseppe Verdi, Giacomo Puccini, Gioachino Rossini", ("music", "Poland"): "Frederic Chopin",
    ("music", "Russia"): "Pyotr Ilyich Tchaikovsky, Igor Stravinsky, Sergei Rachmaninoff, Dmitri Shostakovich",
    ("music", "France"): "Claude Debussy, Maurice Ravel, Georges Bizet, Hector Berlioz", ("music", "Hungary"): "Franz Liszt, Bela Bartok",
    ("music", "United States"): "Louis Armstrong, Elvis Presley, Bob Dylan, Michael Jackson, Duke Ellington",
    ("music", "United Kingdom"): "John Lennon, Paul McCartney, David Bowie", ("music", "Jamaica"): "Bob Marley",
    ("music", "Czech Republic"): "Antonin Dvorak", ("music", "Finland"): "Jean Sibelius", ("music", "Norway"): "Edvard Grieg",
    ("science", "United Kingdom"): "Isaac Newton, Charles Darwin, Stephen Hawking, Michael Faraday, Alan Turing, Alexander Fleming",
    ("science", "Germany"): "Albert Einstein, Max Planck, Werner Heisenberg, Johannes Kepler, Carl Friedrich Gauss",
    ("science", "Italy"): "Galileo Galilei, Enrico Fermi, Alessandro Volta", ("science", "Denmark"): "Niels Bohr, Tycho Brahe",
    ("science", "France"): "Louis Pasteur, Antoine Lavoisier, Pierre Curie, Henri Poincare", ("science", "Austria"): "Erwin Schrodinger",
    ("science", "United States"): "Thomas Edison, Richard Feynman, Carl Sagan, Benjamin Franklin, Linus Pauling",
    ("science", "Russia"): "Dmitri Mendeleev, Ivan Pavlov", ("science", "Sweden"): "Alfred Nobel, Carl Linnaeus",
    ("science", "India"): "Srinivasa Ramanujan", ("science", "Greece"): "Archimedes, Euclid, Pythagoras",
    ("philosophy", "Greece"): "Plato, Aristotle, Socrates, Epicurus", ("philosophy", "China"): "Confucius, Laozi",
    ("philosophy", "Germany"): "Immanuel Kant, Friedrich Nietzsche, Karl Marx, Arthur Schopenhauer, Georg Hegel",
    ("philosophy", "France"): "Rene Descartes, Jean-Paul Sartre, Voltaire, Michel Foucault, Simone de Beauvoir",
    ("philosophy", "United Kingdom"): "John Locke, Bertrand Russell, Thomas Hobbes, David Hume, John Stuart Mill",
    ("philosophy", "Netherlands"): "Baruch Spinoza", ("philosophy", "Denmark"): "Soren Kierkegaard",
    ("politics", "United States"): "Abraham Lincoln, George Washington, Thomas Jefferson, Barack Obama, John F. Kennedy",
    ("politics", "United Kingdom"): "Winston Churchill, Margaret Thatcher, Tony Blair", ("politics", "Germany"): "Angela Merkel, Otto von Bismarck",
    ("politics", "India"): "Mahatma Gandhi, Jawaharlal Nehru, Indira Gandhi", ("politics", "South Africa"): "Nelson Mandela",
    ("politics", "Russia"): "Vladimir Lenin, Mikhail Gorbachev, Vladimir Putin", ("politics", "China"): "Mao Zedong, Deng Xiaoping",
    ("politics", "France"): "Napoleon Bonaparte, Charles de Gaulle, Emmanuel Macron", ("politics", "Cuba"): "Fidel Castro",
}

ALIASES = {
    "United States": ("United States of America", "USA", "US"),
    "United Kingdom": ("England", "UK", "Great Britain", "Scotland", "Wales", "Northern Ireland"),
    "Netherlands": ("The Netherlands",),
    "Czech Republic": ("Czechia",),
    "Oceania": ("Australia",),
    "Washington, D.C.": ("Washington D.C.", "Washington, DC", "Washington DC"),
    "Kyiv": ("Kiev",),
    "Brasilia": ("Brasília",), "Bogota": ("Bogotá",), "Asuncion": ("Asunción",), "San Jose": ("San José",), "Yaounde": ("Yaoundé",),
    "Lome": ("Lomé",), "Chisinau": ("Chișinău",), "Male": ("Malé",), "Sana'a": ("Sanaa",),
    "Reykjavik": ("Reykjavík",), "Ulaanbaatar": ("Ulan Bator",), "Myanmar": ("Burma",),
}
"""What counts as the same answer."""
